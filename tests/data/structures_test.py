"""Protein structures: what is read from PDB and mmCIF, and everything that can be wrong with files and folders."""

import errno
import gzip
import os
import sys

import numpy as np
import pytest
from folder_files import link

from care_jax.data import DataError, structures
from care_jax.data.structures import read_structures

gemmi = pytest.importorskip("gemmi", reason="the extra `proteins`")

NAMES = ("ALA", "GLY", "LEU", "SER", "VAL", "LYS", "GLU", "THR", "ASP", "ILE")


def places(count: int, seed: int = 0) -> np.ndarray:
    """Three decimals, as files have."""
    steps = np.random.default_rng(seed).normal(size=(count, 3))
    return np.round(np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0), 3)


def residue(number: int, name: str, place: np.ndarray, atoms: tuple[str, ...] = ("N", "CA", "C")) -> "gemmi.Residue":
    made = gemmi.Residue()
    made.name, made.seqid = name, gemmi.SeqId(str(number))
    for index, called in enumerate(atoms):
        atom = gemmi.Atom()
        atom.name, atom.element = called, gemmi.Element(called[0])
        atom.pos = gemmi.Position(*(place + (index - atoms.index("CA") if "CA" in atoms else 0) * 0.5))
        made.add_atom(atom)
    return made


def structure(**chains: list) -> "gemmi.Structure":
    """Chains by their names, of residues (name, place)."""
    model = gemmi.Model(1)
    for name, residues in chains.items():
        made = gemmi.Chain(name)
        for number, (called, place) in enumerate(residues, 1):
            made.add_residue(residue(number, called, place))
        model.add_chain(made)
    whole = gemmi.Structure()
    whole.add_model(model)
    whole.setup_entities()
    return whole


def protein(count: int = 10, seed: int = 0) -> list:
    generator = np.random.default_rng(seed)
    return [(str(generator.choice(NAMES)), place) for place in places(count, seed)]


def pdb(whole: "gemmi.Structure") -> str:
    return whole.make_pdb_string()


def cif(whole: "gemmi.Structure") -> str:
    return whole.make_mmcif_document().as_string()


def read(root, **settings):
    return read_structures(root, **{"min_length": 3, **settings})


@pytest.fixture
def root(tmp_path):
    """A folder with one good file, of ten residues."""
    (tmp_path / "good.pdb").write_text(pdb(structure(A=protein())))
    return tmp_path


@pytest.mark.parametrize("write", [pdb, cif])
@pytest.mark.parametrize("packed", [False, True])
def test_chains_as_they_were_written(tmp_path, write, packed):
    chains = {"A": protein(12, 1), "B": protein(7, 2)}
    text = write(structure(**chains)).encode()
    name = {pdb: "X.PDB", cif: "x.cif"}[write] + (".gz" if packed else "")
    (tmp_path / name).write_bytes(gzip.compress(text) if packed else text)
    found, skipped = read(tmp_path)
    assert [chain.name for chain in found] == [f"{name}:A", f"{name}:B"]
    for chain, residues in zip(found, chains.values(), strict=True):
        assert chain.sequence == gemmi.one_letter_code([called for called, _ in residues])
        np.testing.assert_array_equal(chain.points, [place for _, place in residues])
        assert chain.points.dtype == np.float64
    assert skipped.summary() == []


def test_all_extensions_in_the_order_of_names(tmp_path):
    (tmp_path / "deeper").mkdir()
    names = ("b.cif", "a.mmcif", "c.ent", "d.pdb", "B.ENT", "deeper/a.pdb")
    for seed, name in enumerate(names):
        write = cif if "cif" in name else pdb
        (tmp_path / name).write_text(write(structure(A=protein(seed=seed))))
    assert [chain.name for chain in read(tmp_path)[0]] == [
        f"{name}:A" for name in ("B.ENT", "a.mmcif", "b.cif", "c.ent", "d.pdb", "deeper/a.pdb")
    ]


def test_which_residues(tmp_path):
    """MSE and other names of standard amino acids; nothing without a Cα, no other residues, ligands, water or DNA."""
    names = ["ALA", "MSE", "HSD", "SEP", "HIE", "CYX", "GLY", "TRP"]
    whole = structure(
        A=list(zip(names, places(8), strict=True)),
        W=[("HOH", place) for place in places(5)],
        D=[("DA", place) for place in places(5)],
    )
    whole[0]["A"].add_residue(residue(9, "TYR", places(9)[8], atoms=("N", "C")))
    calcium = residue(20, "CA", places(1)[0], atoms=("CA",))
    calcium[0].element = gemmi.Element("Ca")
    whole[0].add_chain(gemmi.Chain("Z"))
    whole[0]["Z"].add_residue(calcium)
    (tmp_path / "a.pdb").write_text(pdb(whole))
    (only,), skipped = read(tmp_path)
    assert only.sequence == "AMHHCGW" and only.name == "a.pdb:A"
    np.testing.assert_array_equal(only.points, places(8)[[0, 1, 2, 4, 5, 6, 7]])
    assert skipped.summary() == []


@pytest.mark.parametrize("write", [pdb, cif])
def test_first_model_and_first_location(tmp_path, write):
    whole = structure(A=protein())
    second = structure(A=protein(seed=5))[0]
    second.num = 2
    whole.add_model(second)
    here = whole[0]["A"][4]
    other = here[1].clone()
    here[1].altloc, other.altloc = "A", "B"
    other.pos = gemmi.Position(99, 99, 99)
    here.add_atom(other)
    (tmp_path / ("a.pdb" if write is pdb else "a.cif")).write_text(write(whole))
    (only,), _ = read(tmp_path)
    np.testing.assert_array_equal(only.points, places(10))


def test_of_two_residues_in_one_place_the_first_counts(tmp_path):
    lines = pdb(structure(A=protein())).splitlines()
    here = [line for line in lines if line.startswith("ATOM") and line[22:26] == "   5"]
    both = [f"{line[:16]}{place}{name}{line[20:]}" for place, name in (("A", "SER"), ("B", "TRP")) for line in here]
    first = lines.index(here[0])
    (tmp_path / "a.pdb").write_text("\n".join([*lines[:first], *both, *lines[first + len(here) :]]))
    (only,), _ = read(tmp_path)
    assert len(only) == 10 and only.sequence[4] == "S"
    np.testing.assert_array_equal(only.points, places(10))


def test_an_amino_acid_that_is_a_ligand_is_not_of_the_chain(tmp_path):
    lines = pdb(structure(A=protein())).splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("TER"))
    ligand = "HETATM   90  CA  GLU A 201      50.000  50.000  50.000  1.00  0.00           C"
    (tmp_path / "a.pdb").write_text("\n".join([*lines[: end + 1], ligand, *lines[end + 1 :]]))
    (only,), _ = read(tmp_path)
    np.testing.assert_array_equal(only.points, places(10))


def test_models_that_all_have_one_number(tmp_path):
    """gemmi refuses such a file, of which the first model is enough."""
    atoms = [line for line in pdb(structure(A=protein())).splitlines() if line.startswith("ATOM")]
    (tmp_path / "a.pdb").write_text("\n".join(["MODEL        1", *atoms, "ENDMDL"] * 3))
    (only,), _ = read(tmp_path)
    np.testing.assert_array_equal(only.points, places(10))


def test_segments_are_chains_of_their_own(tmp_path):
    """Simulations write several molecules under one name, with the same numbers."""
    lines = []
    for segment, seed in (("PROA", 0), ("PROB", 1)):
        for line in pdb(structure(A=protein(seed=seed))).splitlines():
            if line.startswith("ATOM"):
                lines.append(f"{line[:21]} {line[22:72]}{segment}{line[76:]}")
    (tmp_path / "a.pdb").write_text("\n".join(lines))
    first, second = read(tmp_path)[0]
    assert (first.name, second.name) == ("a.pdb:.PROA", "a.pdb:.PROB")
    np.testing.assert_array_equal(second.points, places(10, 1))


def _line(text: str, column: int, put: str) -> str:
    """Some characters of the fifth residue's Cα."""
    lines = text.splitlines()
    (which,) = [
        i for i, line in enumerate(lines) if line.startswith("ATOM") and line[12:16] == " CA " and line[22:26] == "   5"
    ]
    lines[which] = lines[which][:column] + put + lines[which][column + len(put) :]
    return "\n".join(lines)


def _mmcif_with(put: str) -> str:
    document = structure(A=protein()).make_mmcif_document()
    document[0].find_values("_atom_site.Cartn_y")[7] = put  # of a Cα
    return document.as_string()


BAD = {
    "empty.pdb": (b"", "empty"),
    "blank.cif": (b"\n \n", "empty"),
    "empty.pdb.gz": (gzip.compress(b""), "empty"),
    "no.pdb.gz": (b"not packed", "damaged gzip"),
    "text.pdb": (b"Dear Sir,\n", "no atoms"),
    "bytes.ent": (bytes(range(256)), "no atoms"),
    "header.pdb": (b"HEADER    OXYGEN TRANSPORT\nEND\n", "no atoms"),
    "other.cif": (b"data_x\n_cell.length_a 1\n", "no atoms"),
    "text.cif": (b"Dear Sir,\n", "not readable as mmCIF"),
    "bytes.mmcif": (bytes(range(256)), "not readable as mmCIF"),
    "short.pdb": (b"ATOM      1  CA  ALA A   1     \n", "not readable as PDB"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_skipped(root, name):
    contents, reason = BAD[name]
    (root / name).write_bytes(contents)
    chains, skipped = read(root)
    assert [chain.name for chain in chains] == ["good.pdb:A"]
    assert skipped.files.reasons == {name: reason}
    assert skipped.summary() == [f"skipped 1 structure file that could not be used (1 {reason}), first {name}"]


@pytest.mark.parametrize("put", ["     nan", "     inf", "********", "        ", "   1.2.3", "   x    "])
def test_coordinates_that_are_no_numbers_in_pdb(root, put):
    """gemmi takes stars and blanks for 0."""
    for place, column in enumerate((30, 38, 46)):
        (root / f"{place}.pdb").write_text(_line(pdb(structure(A=protein())), column, put))
    chains, skipped = read(root)
    assert [chain.name for chain in chains] == ["good.pdb:A"]
    assert skipped.files.reasons == {f"{place}.pdb": "coordinates that are no numbers" for place in range(3)}


@pytest.mark.parametrize("put", ["nan", "inf", "?", ".", "1.2.3", "1e400"])
def test_coordinates_that_are_no_numbers_in_mmcif(root, put):
    (root / "bad.cif").write_text(_mmcif_with(put))
    assert read(root)[1].files.reasons == {"bad.cif": "coordinates that are no numbers"}


def test_residues_without_numbers(root):
    document = structure(A=protein()).make_mmcif_document()
    numbers = document[0].find_loop("_atom_site.auth_seq_id")
    for row in range(len(numbers)):
        numbers[row] = "?"
    (root / "bad.cif").write_text(document.as_string())
    assert read(root)[1].files.reasons == {"bad.cif": "residues without numbers"}


def test_cut_off_files(root):
    packed = gzip.compress(pdb(structure(A=protein(50))).encode())
    (root / "a.pdb.gz").write_bytes(packed[: len(packed) // 2])
    text = cif(structure(A=protein(50)))
    (root / "b.cif").write_text(text[: int(0.8 * len(text))])
    assert read(root)[1].files.reasons == {"a.pdb.gz": "damaged gzip", "b.cif": "not readable as mmCIF"}


def test_without_a_protein(root):
    for name, whole in (("dna.pdb", structure(A=[("DA", place) for place in places(9)])), ("w.pdb", structure(A=[]))):
        (root / name).write_text(pdb(whole))
    reasons = read(root)[1].files.reasons
    assert reasons == {"dna.pdb": "no Cα of a protein", "w.pdb": "no atoms"}


def test_short_chains_and_points(root):
    (root / "one.pdb").write_text("ATOM      1  CA  ALA A   1       1.000   2.000   3.000  1.00  0.00           C\n")
    point = [(called, np.ones(3)) for called, _ in protein(9)]
    (root / "short.cif").write_text(cif(structure(A=protein(8), B=protein(9, 1), C=point)))
    chains, skipped = read(root, min_length=9)
    assert [chain.name for chain in chains] == ["good.pdb:A", "short.cif:B"]
    short = "of fewer than 9 residues"
    assert skipped.chains.reasons == {"one.pdb:A": short, "short.cif:A": short, "short.cif:C": "all at one point"}
    assert not len(skipped.files)


def test_chains_that_a_periodic_box_has_torn_apart(root):
    """Not those that lack residues: their numbers go on elsewhere."""
    torn = [(called, place + np.array([60.0 * (row > 4), 0, 0])) for row, (called, place) in enumerate(protein(10, 1))]
    (root / "torn.pdb").write_text(pdb(structure(A=torn)))
    gap = structure(A=torn)
    for late in list(gap[0]["A"])[5:]:
        late.seqid = gemmi.SeqId(str(late.seqid.num + 20))
    (root / "wide.pdb").write_text(pdb(gap))
    chains, skipped = read(root)
    assert [chain.name for chain in chains] == ["good.pdb:A", "wide.pdb:A"]
    assert skipped.chains.reasons == {"torn.pdb:A": "torn apart, as by a periodic box"}


def test_the_same_entry_as_pdb_and_mmcif(root):
    moved = [(called, place + np.array([0.01, 0, 0])) for called, place in protein()]
    (root / "good.cif").write_text(cif(structure(A=protein(), B=moved)))
    chains, skipped = read(root)
    assert [chain.name for chain in chains] == ["good.cif:A", "good.cif:B"]
    assert skipped.chains.reasons == {"good.pdb:A": "the same as one before"}
    assert skipped.summary() == ["skipped 1 chain that could not be used (1 the same as one before), first good.pdb:A"]


def test_links_are_followed_once(root):
    (root / "sub").mkdir()
    (root / "sub" / "b.pdb").write_text(pdb(structure(A=protein(seed=1))))
    link(root, "loop", root)
    link(root, "twice", root / "sub")
    link(root, "z.pdb", root / "good.pdb")
    link(root, "nowhere.pdb", "none")
    chains, skipped = read(root)
    assert [chain.name for chain in chains] == ["good.pdb:A", "sub/b.pdb:A"]
    assert skipped.files.reasons == {"nowhere.pdb": "no file, or a link to nowhere"}
    assert skipped.summary()[1] == (
        "passed over 2 names of folders that have others (loop, twice); "
        "passed over 1 names of files that have others (z.pdb)"
    )


def test_pipes_and_files_without_leave(root, monkeypatch):
    os.mkfifo(root / "pipe.pdb")
    (root / "secret.pdb").write_text("ATOM")
    opened = open

    def refuse(path, *args):
        if str(path).endswith("secret.pdb"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args)

    monkeypatch.setattr(structures, "open", refuse, raising=False)
    assert read(root)[1].files.reasons == {
        "pipe.pdb": "no file, or a link to nowhere",
        "secret.pdb": "unreadable: Permission denied",
    }


def test_an_outage_leaves_no_file_out(root, monkeypatch):
    def fail(path, *args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(structures, "open", fail, raising=False)
    with pytest.raises(DataError, match=r"can't be read now \(Input/output error\): start the same command again"):
        read(root)


def test_a_training_and_a_test_folder_are_read_together(tmp_path):
    for seed, name in enumerate(("train", "test")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.pdb").write_text(pdb(structure(A=protein(seed=seed))))
    assert [chain.name for chain in read(tmp_path)[0]] == ["test/a.pdb:A", "train/a.pdb:A"]


def test_other_files_are_counted(root):
    for name in ("a.mmtf", "b.bcif", "c.bcif", "README", ".hidden.pdb"):
        (root / name).write_text("")
    (note,) = read(root)[1].summary()
    assert note.startswith("ignored 5 other files (.bcif 2, ")
    assert {".mmtf 1", "no extension 1", "hidden 1"} == set(note.rstrip(")").split(", ")[1:])


def test_large_files_and_small_ones_that_unpack_to_any_size(root, monkeypatch):
    size = (root / "good.pdb").stat().st_size
    monkeypatch.setattr(structures, "MAX_BYTES", size)
    (root / "large.pdb").write_text(pdb(structure(A=protein(seed=1))) + "REMARK")
    taken = []
    original = gzip.GzipFile.read

    def count(self, size=-1):
        taken.append(original(self, size))
        return taken[-1]

    monkeypatch.setattr(gzip.GzipFile, "read", count)
    (root / "bomb.pdb.gz").write_bytes(gzip.compress(bytes(50 * 2**20), 1))
    chains, skipped = read(root)
    assert [chain.name for chain in chains] == ["good.pdb:A"]
    assert sum(map(len, taken)) == size + 1
    assert set(skipped.files.reasons) == {"bomb.pdb.gz", "large.pdb"}
    assert all(reason.endswith("MiB unpacked") for reason in skipped.files.reasons.values())


def test_a_file_for_which_memory_is_short(root, monkeypatch):
    (root / "large.cif").write_text(cif(structure(A=protein(seed=1))))
    original = gemmi.read_structure_string

    def short(data, format):
        if format == gemmi.CoorFormat.Mmcif:
            raise MemoryError
        return original(data, format=format)

    monkeypatch.setattr(gemmi, "read_structure_string", short)
    assert read(root)[1].files.reasons == {"large.cif": "too large for the memory"}


def test_numbers_that_go_on_after_9999(tmp_path):
    """Hybrid-36: A000 follows 9999."""
    lines = []
    for number, (name, place) in zip(("9998", "9999", "A000", "A001"), protein(4), strict=True):
        x, y, z = place
        lines.append(f"ATOM  A0000  CA  {name} A{number}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C")
    (tmp_path / "a.pdb").write_text("\n".join(lines))
    (only,), _ = read(tmp_path)
    np.testing.assert_array_equal(only.points, places(4))


def test_many_atoms_take_seconds(tmp_path):
    """A hundred thousand."""
    whole = structure(**{name: protein(2500, seed) for seed, name in enumerate("ABCDEFGHIJ")})
    for chain in whole[0]:
        for each in chain:
            each.add_atom(each[0].clone())
            each[-1].name = "CB"
    assert whole[0].count_atom_sites() == 100_000
    (tmp_path / "a.pdb").write_text(pdb(whole))
    assert [len(chain) for chain in read(tmp_path)[0]] == [2500] * 10


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no protein structures \(\.pdb, .*\) in .*: give the folder that holds them"),
        ({"a.jpg": ""}, r"no protein structures .*, only \.jpg 1: give"),
        (
            {"a.pdb": "", "b.pdb": ""},
            r"no protein chain of at least 3 residues in the 2 structure files of .* \(skipped 2 structure files that "
            r"could not be used \(2 empty\), first a\.pdb\): is this the right folder\?",
        ),
    ],
)
def test_folders_without_any(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_no_folder(root):
    for path, message in (
        (root / "none", "no folder .*none: give the one that holds the structures"),
        (root / "good.pdb", "good.pdb is a file: give the folder"),
        ("a\0b", "can't be the name of a folder"),
    ):
        with pytest.raises(DataError, match=message):
            read(path)
    with pytest.raises(DataError, match="min_length must be at least 1 residue, got 0"):
        read(root, min_length=0)


def test_without_gemmi(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "gemmi", None)  # importing it fails
    with pytest.raises(
        DataError, match=r"^reading protein structures needs gemmi: pip install 'care_jax\[proteins\]'$"
    ):
        read(root)
