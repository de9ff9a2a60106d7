"""Where labels are kept that took long to read, and what is said where that is not beside the data."""

import os
from pathlib import Path

import numpy as np
import pytest

from care_jax.data import record_index
from care_jax.data.record_index import Index
from care_jax.devices import compilation_cache

LABELS = {"labels": np.arange(5, dtype=np.int32)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shards(tmp_path):
    for name in ("shard-0", "shard-1"):
        (tmp_path / name).write_bytes(b"some records")
    return [str(tmp_path / name) for name in ("shard-0", "shard-1")]


def start(path, shards):
    """What a start says; and whether it had to read all records."""
    notes, reads = [], []
    index = Index(path, shards, notes)
    arrays = index.read(("labels",), lambda: reads.append(1) or LABELS)
    np.testing.assert_array_equal(arrays["labels"], LABELS["labels"])
    return notes, bool(reads), index.path


def test_beside_the_data_where_that_can_be_written_to(tmp_path, cache, shards):
    path = tmp_path / "index.npz"
    assert [start(path, shards) for _ in range(2)] == [([], True, path), ([], False, path)]
    assert not cache.exists()


def test_in_the_users_cache_where_not(tmp_path, cache, shards):
    """The second start reads no record, and both say where the labels are."""
    path = tmp_path / "read-only" / "index.npz"  # a folder that is not there can't be written to, by root neither
    (first, read_first, where), (second, read_second, _) = start(path, shards), start(path, shards)
    assert (read_first, read_second) == (True, False)
    assert first == second == [f"labels are kept in {cache}/care_jax/labels, as {path.parent} could not be written to"]
    assert [where] == list((cache / "care_jax" / "labels").iterdir())
    notes = []
    for split in ("train", "validation"):
        Index(tmp_path / "read-only" / f"{split}.npz", shards, notes).read(("labels",), lambda: LABELS)
    assert notes == first  # once, of all splits


def test_of_other_shards_or_another_folder_they_are_read_anew(tmp_path, cache, shards):
    path = tmp_path / "read-only" / "index.npz"
    start(path, shards)
    assert start(tmp_path / "another" / "index.npz", shards)[1]
    assert start(path, shards[:1])[1]
    Path(shards[1]).write_bytes(b"some more records")
    assert start(path, shards)[1]


def test_nowhere_is_said_with_what_to_do(tmp_path, cache, shards):
    cache.write_text("a file, and no folder")
    path = tmp_path / "read-only" / "index.npz"
    for _ in range(2):
        (note,), read, _ = start(path, shards)
        assert read and "so each start reads all records" in note and "XDG_CACHE_HOME" in note
        assert f"{path.parent}: No such file or directory; {cache}/care_jax/labels: Not a directory" in note


def test_files_that_are_not_known_name_no_file_of_the_cache(tmp_path, cache):
    (note,), read, _ = start(tmp_path / "read-only" / "index.npz", [])
    assert read and "can't be kept" in note and not cache.exists()


@pytest.mark.parametrize("given", ["", "relative", "/elsewhere"])
def test_the_cache_folder_is_that_of_compiled_programs(given, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    programs = compilation_cache.default_folder().parents[1]
    assert record_index.cache_folder().parent == programs


def test_without_a_home_folder_too(tmp_path, monkeypatch, shards):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert len(start(tmp_path / "read-only" / "index.npz", shards)[0]) == 1
    assert sorted(os.listdir(tmp_path)) == ["shard-0", "shard-1"]
