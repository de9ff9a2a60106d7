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


def test_changes_look_as_they_are_called(neighbours):
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    assert neighbours.changed(red, "")[0, 0, 0].tolist() == [200, 0, 0]
    assert neighbours.changed(red, "hue")[0, 0, 0].tolist() == [0, 200, 0]
    assert len(set(neighbours.changed(red, "gray")[0, 0, 0].tolist())) == 1
    ring = np.zeros((1, 8, 8, 3), np.uint8)
    ring[:, 2:6, 2:6] = 255
    assert (neighbours.changed(ring, "crop") == 255).all() and neighbours.changed(ring, "crop").shape == ring.shape


@pytest.mark.slow
def test_files_and_numbers_are_looked_up(neighbours, saved_run, tmp_path, capsys):
    out = tmp_path / "n.png"
    query = saved_run.images / "ant" / "04.png"
    config = saved_run.config
    neighbours.neighbours(
        saved_run.workdir, config, [str(query), "1"], out, images=str(saved_run.images), k=3, changes=["hue"]
    )
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["image", "change", "rank", "cosine", "row", "file", "class"]
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
    with pytest.raises(UsageError, match="'blur' is none of hue, crop, gray"):
        neighbours.neighbours(saved_run.workdir, config, ["1"], out, changes=["blur"])
