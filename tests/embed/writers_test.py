"""Rows written as they come: the numbers, the names, and nothing half written."""

import csv

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.embed import writers
from care_jax.storage import PathError

POINTS = np.random.default_rng(0).normal(size=(1207, 5)).astype(np.float32)
FILES = [f"{i},{'ä' * (i % 3)}.png" for i in range(len(POINTS))]


def write(path, failing=None):
    with writers.writing(path) as writer:
        for rows in np.array_split(np.arange(len(POINTS)), [1, 7, 1200]):
            writer.add(POINTS[rows], {"row": rows.tolist(), "file": [FILES[row] for row in rows]})
        if failing:
            raise failing


def test_npy_with_a_table_beside_it(tmp_path):
    write(tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy", mmap_mode="r"), POINTS)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["row", "file"] and [line[1] for line in lines] == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.npy"]


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table["file"].to_pylist() == FILES and table["row"].to_pylist() == [*range(len(POINTS))]
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), POINTS)


def test_names_that_are_no_text_stay_apart_in_parquet():
    names = [name.decode("utf-8", "surrogateescape") for name in (b"caf\xe9", b"caf\xe8", "café".encode())]
    assert [writers._text(name) for name in names] == [r"caf\xe9", r"caf\xe8", "café"]


@pytest.mark.parametrize("name", ["x.npy", "x.parquet"])
def test_a_failure_leaves_what_was_there(tmp_path, name):
    (tmp_path / name).write_text("before")
    with pytest.raises(KeyError):
        write(tmp_path / name, KeyError())
    with pytest.raises(writers.WriteError, match=f"{name} can't be written: No space left; make room"):
        write(tmp_path / name, OSError(28, "No space left"))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "before")]


def test_mistakes_are_told_before_the_work(tmp_path):
    with pytest.raises(UsageError, match=r"x\.txt: give a file that ends in \.npy or \.parquet"):
        writers.check(tmp_path / "x.txt")
    with pytest.raises(PathError, match="can't write there"):
        writers.check(tmp_path / "none" / "x.npy")
    (tmp_path / "x.npy").mkdir()
    with pytest.raises(PathError, match="it is a folder"):
        writers.check(tmp_path / "x.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
    (tmp_path / "y.csv").write_text("someone's own")
    with pytest.raises(UsageError, match=r"y\.csv is there already"):
        writers.check(tmp_path / "y.npy")
    (tmp_path / "y.npy").write_text("of an earlier call")
    writers.check(tmp_path / "y.npy")
