"""Pieces of chains as a data set: every residue, no chain on both sides, one line for what can't be used."""

import dataclasses
import hashlib
import importlib.util
import re
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

from care_jax import data
from care_jax.data import DataError, chains, proteins
from care_jax.data.chains import SCALE, Chain
from care_jax.data.proteins import load_proteins, pieces

gemmi = pytest.importorskip("gemmi", reason="the extra `proteins`")

from tests.data.structures_test import cif, pdb, protein, structure  # noqa: E402

SMALL = {"window_lengths": (10, 16), "window_stride": 4}


def chain(count: int, name: str = "x.pdb:A", seed: int = 0) -> Chain:
    generator = np.random.default_rng(seed)
    sequence = "".join(generator.choice(list(chains.AMINO_ACIDS), count))
    return Chain(name, np.cumsum(generator.normal(size=(count, 3)), axis=0), sequence)


@pytest.fixture
def root(tmp_path):
    """Six files of chains of 12 to 32 residues, of no similar sequence; both formats."""
    for i in range(6):
        write, extension = ((pdb, "pdb"), (cif, "cif"))[i % 2]
        (tmp_path / f"{i}.{extension}").write_text(write(structure(A=protein(12 + 4 * i, seed=i))))
    return tmp_path


def residues(name: str) -> tuple[str, range]:
    """Of the name of a piece: the chain, and its residues counted from 0."""
    of, first, last = re.fullmatch(r"(.*) residues (\d+)-(\d+)", name).groups()
    return of, range(int(first) - 1, int(last))


@pytest.mark.parametrize("stride", [1, 3, 8])
@pytest.mark.parametrize("count", [8, 9, 23, 40])
def test_pieces_are_what_their_names_say(count, stride):
    whole = chain(count)
    found = pieces([whole], (8, 20, 40), stride)
    assert found.clouds.dtype == np.float32 and found.clouds.shape == (len(found.names), 40, 4)
    reached = {length: set() for length in (8, 20, 40)}
    for cloud, name in zip(found.clouds, found.names, strict=True):
        of, numbers = residues(name)
        length = len(numbers)
        expected = whole.points[list(numbers)]
        np.testing.assert_allclose(cloud[:length, :3], (expected - expected.mean(axis=0)) / SCALE, atol=1e-6)
        np.testing.assert_array_equal(cloud[:, 3], np.arange(40) < length)
        assert of == whole.name and not cloud[length:].any()
        reached[length] |= {*numbers}
    assert reached == {length: {*range(count)} if length <= count else set() for length in reached}
    assert len(set(found.names)) == len(found.names)
    examples = data.Examples(found.clouds, names=found.names)
    assert examples.clouds


def test_a_data_set_of_a_folder(root):
    found = load_proteins(root, test_fraction=0.4, **SMALL)
    assert found.clouds and found.pretrain is found.train and not found.num_classes
    assert found.train.pixels.shape[1:] == found.test.pixels.shape[1:] == (16, 4)
    sides = [{residues(name)[0] for name in part.names} for part in (found.train, found.test)]
    assert not sides[0] & sides[1] and len(sides[1]) == 2
    assert sides[0] | sides[1] == {f"{i}.{('pdb', 'cif')[i % 2]}:A" for i in range(6)}
    assert {len(residues(name)[1]) for name in found.train.names} == {10, 16}
    assert re.search(r"training and \d+ test clouds, unlabelled; pieces of 10, 16 residues, every 4; 6 chains in 6 gro",
                     found.description())  # fmt: skip
    # Whatever order the lengths are given in, and however often; the same again.
    again = data.load("proteins", root=str(root), test_fraction=0.4, window_lengths=(16, 10, 10), window_stride=4)
    assert again.train.names == found.train.names and again.test.names == found.test.names
    np.testing.assert_array_equal(again.train.pixels, found.train.pixels)


@pytest.mark.parametrize("shown", ["the same", "half of it"])
def test_similar_chains_stay_on_one_side(root, shown):
    """A chain's pieces would be told by their twins: a copy that is moved a bit, or a part of it."""
    letters, places = zip(*protein(32, seed=5), strict=True)
    moved = [place + 1.0 + np.sin(np.arange(3) + i) for i, place in enumerate(places)]
    copy = list(zip(letters, moved, strict=True))[: 32 if shown == "the same" else 16]
    (root / "copy.pdb").write_text(pdb(structure(A=copy)))
    for fraction in (0.2, 0.4, 0.6):
        found = load_proteins(root, test_fraction=fraction, **SMALL)
        sides = [{residues(name)[0] for name in part.names} for part in (found.train, found.test)]
        assert sum({"copy.pdb:A", "5.cif:A"} <= side for side in sides) == 1
        assert not sides[0] & sides[1]


def refused(root, line, **settings):
    with pytest.raises(DataError, match=line) as error:
        data.load("proteins", root=root, **{**SMALL, **settings})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"window_lengths": ()}, r"window_lengths must be 4 residues or more, each; got \(\)"),
        ({"window_lengths": (16, 3)}, r"window_lengths must be 4 residues or more, each; got \(16, 3\)"),
        ({"window_stride": 0}, "window_stride must be from 1 to the shortest of window_lengths, 10 residues; got 0"),
        ({"window_stride": 11}, "the shortest of window_lengths, 10 residues; got 11"),
        ({"test_fraction": 0.0}, "test_fraction must be between 0 and 1, got 0.0"),
        ({"window_lengths": (64,)}, "of fewer than 64 residues"),
    ],
)
def test_settings_out_of_range_are_one_line(root, settings, line):
    refused(root, line, **settings)


def test_folders_that_can_not_be_used_are_one_line(tmp_path, root):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty")
    refused(tmp_path / "none", "none")
    refused(tmp_path / "0.pdb", "0.pdb")
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.pdb").write_text(pdb(structure(A=protein(20), B=protein(20, seed=1))))
    (only / "b.pdb").write_text(pdb(structure(A=protein(20))))
    found = load_proteins(only, **SMALL)  # of three chains one is another's copy
    assert {residues(name)[0] for part in (found.train, found.test) for name in part.names} == {"a.pdb:A", "a.pdb:B"}
    (only / "a.pdb").unlink()
    refused(only, "1 chains in 1 group of similar sequence can't be split into training and test: add structures")


def test_what_can_not_be_read_is_left_out_and_said(root):
    """A single atom, coordinates that are none, a file of nothing: the others are a data set still."""
    before = load_proteins(root, **SMALL)
    (root / "single.pdb").write_text(pdb(structure(A=protein(1))))
    lines = pdb(structure(A=protein(20, seed=9))).splitlines()
    broken = [f"{line[:30]}     nan{line[38:]}" if line.startswith("ATOM") else line for line in lines]
    (root / "nan.pdb").write_text("\n".join(broken))
    (root / "nothing.cif").write_text("")
    (root / "picture.png").write_bytes(b"\x89PNG")
    found = load_proteins(root, **SMALL)
    assert found.train.names == before.train.names and found.test.names == before.test.names
    np.testing.assert_array_equal(found.train.pixels, before.train.pixels)
    assert found.skipped.reasons.keys() == {"nan.pdb", "nothing.cif", "single.pdb"}
    assert "ignored 1 other files (.png 1)" in found.description()
    (root / "short.pdb").write_text(pdb(structure(A=protein(5, seed=10), B=protein(4, seed=11))))
    told = load_proteins(root, **SMALL).description()
    assert "skipped 2 chains that could not be used (2 of fewer than 10 residues), first short.pdb:A" in told


LOADED = """
import resource, sys
from care_jax.data.proteins import load_proteins
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
load_proteins(sys.argv[1], window_lengths=(10,))
before = most()
found = load_proteins(sys.argv[2], window_lengths=(10,))
print(len(found.train) + len(found.test), most() - before)
"""


@pytest.mark.slow
def test_a_structure_of_100_000_atoms_takes_little_memory(root, tmp_path_factory):
    """What remains are 5,000 clouds of 10 points; a kilobyte an atom is what reading the file may take beside them."""
    large = tmp_path_factory.mktemp("large")
    count = 34_000
    letters = [name for name, _ in protein(count, seed=3)]
    angle = 0.05 * np.arange(count)
    places = 70.0 * np.stack([np.cos(angle), np.sin(angle), angle / 100], axis=-1)  # 3.6 Å apart
    whole = cif(structure(A=list(zip(letters, places, strict=True))))
    assert whole.count("\nATOM") > 100_000
    (large / "large.cif").write_text(whole)
    rare = [(name, place) for name, (_, place) in zip(["TRP", "TYR", "HIS"] * 6, protein(18), strict=True)]
    (large / "other.pdb").write_text(pdb(structure(A=rare)))  # the large one has nearly all words of its ten letters
    run = subprocess.run([sys.executable, "-c", LOADED, root, large], capture_output=True, text=True, check=True)
    pieces_found, taken = map(int, run.stdout.split())
    assert pieces_found > count // 8 and taken < 150e6


def test_without_the_package_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(proteins, "PACKAGE", "no_such_package_of_structures")
    with pytest.raises(
        DataError, match=r"not installed: pip install 'care_jax\[proteins\]', or give a folder"
    ) as error:
        data.load("proteins")
    assert "\n" not in str(error.value) and "--config.data.root=my_structures" in str(error.value)


@pytest.fixture(scope="module")
def packaged():
    if importlib.util.find_spec(proteins.PACKAGE) is None:
        pytest.skip("the extra `proteins`")
    return load_proteins()


# Of the structures of this version of the package.
VERSION, SUM = "2.11.0", "1bb87171647b08ccb4fb0d6588c7f11dfefeef6fcfeabd7c84c72875989ac914"


def sha256(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_the_packaged_structures(packaged):
    """Fifty chains of as many proteins, a fifth held out; the same arrays whenever and wherever they are loaded."""
    sides = [{residues(name)[0] for name in part.names} for part in (packaged.train, packaged.test)]
    assert [len(side) for side in sides] == [40, 10] and not sides[0] & sides[1]
    assert "structures of the package MDAnalysisTests" in packaged.description()
    again = load_proteins()
    sums = [sha256(one.train.pixels, one.test.pixels) for one in (packaged, again)]
    assert sums[0] == sums[1] and (sums[0] == SUM or version(proteins.PACKAGE) != VERSION)
    assert again.train.names == packaged.train.names and again.test.names == packaged.test.names
    assert "skipped 2 chains that could not be used (1 of fewer than 64 residues, 1 the same as" in again.description()
    assert all(np.abs(part.pixels[..., :3]).max() < 8 for part in (packaged.train, packaged.test))  # in units of 15 Å


def test_the_default_reads_its_folder_alone(packaged, monkeypatch):
    """The package is found, not imported."""
    opened = []
    imported = {name for name in sys.modules if name.startswith(proteins.PACKAGE)}
    real = open

    def noted(path, *arguments, **named):
        opened.append(str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr("care_jax.data.structures.open", noted, raising=False)
    load_proteins()
    folder = str(proteins.packaged())
    assert len(opened) >= 50 and all(path.startswith(folder) for path in opened)
    assert {name for name in sys.modules if name.startswith(proteins.PACKAGE)} == imported


def test_settings_change_the_pieces_not_the_split(packaged):
    other = load_proteins(window_lengths=(64,), window_stride=16)
    for part in ("train", "test"):
        ours, theirs = ({residues(name)[0] for name in getattr(one, part).names} for one in (packaged, other))
        assert ours == theirs
    assert other.train.pixels.shape[1:] == (64, 4) and len(other.train) < len(packaged.train)
    assert dataclasses.replace(other, notes=[]).description().endswith("clouds, unlabelled")
