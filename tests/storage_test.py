"""Files are there whole, the old one or the new one."""

import os

import pytest

from care_jax import storage


def test_a_file_is_replaced_and_leaves_no_draft(tmp_path):
    storage.replace_file(tmp_path / "a.json", "old")
    storage.replace_file(tmp_path / "a.json", "new é")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "new é"
    storage.replace_file(tmp_path / "b", b"\0")
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b"]


def test_its_bytes_are_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    done = []
    flush, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("flushed"), flush(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("renamed"), rename(*names))[1])
    storage.replace_file(tmp_path / "a", "text")
    assert done == ["flushed", "renamed", "flushed"]  # the last one is the folder's


def test_what_fails_leaves_the_old_file(tmp_path, monkeypatch):
    storage.replace_file(tmp_path / "a", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.replace_file(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]
