"""The nearest images: exact whatever the batches, changes as they should look, and the command."""

import numpy as np
import pytest
from PIL import Image

from care_jax.command_line import UsageError
from care_jax.data import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def neighbours(import_command):
    return import_command("care_jax.neighbours")


@pytest.mark.parametrize("sizes", [[101], [1, 40, 2, 58], [5] * 20 + [1]])
def test_the_search_is_exact(neighbours, sizes):
    points, queries = RNG.normal(size=(101, 6)), RNG.normal(size=(3, 6))
    points[70] = points[20]  # of equal ones, the first
    batches = zip(np.split(np.arange(101), np.cumsum(sizes)[:-1]), np.split(points, np.cumsum(sizes)[:-1]), strict=True)
    found = neighbours.search(batches, queries, 8, own=np.array([-1, 20, 50]))
    for q, own in enumerate((-1, 20, 50)):
        cosines = [
            -np.inf if row == own else point @ queries[q] / np.linalg.norm(point) / np.linalg.norm(queries[q])
            for row, point in enumerate(points)
        ]
        assert found.rows[q].tolist() == sorted(range(101), key=lambda row: (-cosines[row], row))[:8]
        np.testing.assert_allclose(found.cosines[q], sorted(cosines, reverse=True)[:8], atol=1e-6)


def test_there_may_be_fewer_than_k(neighbours):
    found = neighbours.search(
        [(np.arange(3), RNG.normal(size=(3, 2)))], RNG.normal(size=(2, 2)), 8, own=np.array([1, -1])
    )
    assert found.rows.shape == (2, 2) and 1 not in found.rows[0]


@pytest.mark.slow
def test_files_and_numbers_are_looked_up(neighbours, saved_run, tmp_path, capsys):
    out = tmp_path / "n.png"
    query = saved_run.images / "ant" / "04.png"
    config = saved_run.config
    neighbours.neighbours(
        saved_run.workdir, config, [str(query), "1"], out, images=str(saved_run.images), k=3, changes=["hue"]
    )
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["image", "change", "rank", "cosine", "number_in_set", "file", "class"]
    assert [line[:3] for line in lines] == [
        [word, change, str(rank)] for word in (str(query), "1") for change in ("", "hue") for rank in (1, 2, 3)
    ]
    for word, own in ((str(query), "ant/04.png"), ("1", "ant/02.png")):
        assert own not in {line[5] for line in lines if line[0] == word}
    cosines = [float(line[3]) for line in lines[:3]]
    assert cosines == sorted(cosines, reverse=True) and cosines[0] <= 1.0
    with Image.open(out) as sheet:
        assert sheet.width > sheet.height > 300
    for words, message in ((["99"], "end at 23"), (["none.jpg"], "can't read none.jpg"), ([str(tmp_path)], "a folder")):
        with pytest.raises((UsageError, DataError), match=message):
            neighbours.neighbours(saved_run.workdir, config, words, out, images=str(saved_run.images))
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"text\.jpg can't be used: not an image"):
        neighbours.neighbours(saved_run.workdir, config, [str(tmp_path / "text.jpg")], out)
    with pytest.raises(UsageError, match="'rotation' is none of hue, crop, gray, the changes of images"):
        neighbours.neighbours(saved_run.workdir, config, ["1"], out, changes=["rotation"])


@pytest.mark.slow
def test_clouds_are_looked_up_by_numbers_and_by_files(neighbours, saved_clouds, tmp_path, capsys):
    out, (workdir, config, structures) = tmp_path / "n.png", saved_clouds
    query = structures / "p4.pdb"
    neighbours.neighbours(workdir, config, ["7", str(query)], out, images=str(structures), k=3)
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["cloud", "change", "rank", "cosine", "number_in_set", "name"]
    assert [line[:3] for line in lines] == [
        [word, change, str(rank)]
        for word in ("7", str(query))
        for change in ("", "rotation", "jitter")
        for rank in (1, 2, 3)
    ]
    assert "7" not in {line[4] for line in lines if line[0] == "7"}
    assert "p4.pdb:A residues 1-8" not in {line[5] for line in lines if line[0] == str(query)}
    with Image.open(out) as sheet:
        assert sheet.width > 400 and sheet.height > 600
    out.unlink()
    for words, changes, message in (
        (["1"], ["hue"], r"--changes=hue: 'hue' is none of rotation, jitter, the changes of clouds"),
        (["999"], None, r"cloud 999: there is no such file, and \d+ clouds of .* end at"),
        (["none.pdb"], None, "none.pdb can't be used: no file, or a link to nowhere"),
        (["photo.jpg"], None, "photo.jpg is no protein structure by its name"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            neighbours.neighbours(workdir, config, words, out, images=str(structures), changes=changes)
    assert not [*tmp_path.iterdir()]


def test_pictures_of_clouds_have_one_scale(neighbours):
    """A cloud twice as large is drawn larger, wherever it stands; images stay as they are."""
    cloud = np.concatenate([RNG.normal(size=(12, 3)), np.ones((12, 1))], axis=1).astype(np.float32)
    small, large = neighbours._pictures(np.stack([cloud, cloud * [2, 2, 2, 1]]))
    widths = [np.ptp(np.nonzero((picture != 255).any(axis=(0, 2)))[0]) for picture in (small, large)]
    assert 1.5 < widths[1] / widths[0] < 2.5
    images = RNG.integers(0, 256, (2, 4, 4, 3), np.uint8)
    assert neighbours._pictures(images) is images
