"""Files are there whole, the old one or the new one."""

import os

import pytest

from care_jax import build, storage


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


def test_home_folders_are_what_a_shell_makes_of_them(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.local_path("~/runs/a", "--workdir") == tmp_path / "runs" / "a"
    assert str(storage.local_path("a/~/b", "--workdir")) == "a/~/b"


@pytest.mark.parametrize("text", ["gs://bucket/run", "s3://b", "https://a.b/c", "~no_such_user/a", "a\0b"])
def test_what_is_no_local_path_is_one_line(text):
    with pytest.raises(storage.PathError, match=r"^config\.data\.root=") as caught:
        storage.local_path(text, "config.data.root")
    assert len(str(caught.value).splitlines()) == 1


def test_an_address_is_told_from_a_path():
    assert all(map(storage.is_url, ("gs://b", "file:///a", "S3+x://b")))
    assert not any(map(storage.is_url, ("gs:/b", "a/gs://b", "c:\\runs", "scale=[0.2,1.0]", "")))


def test_data_is_looked_for_at_home(monkeypatch, tmp_path, tiny_config):
    """And at an address where TensorFlow Datasets reads everything; nowhere is a folder called `gs:` made or read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = {}
    monkeypatch.setattr(build.data, "load", lambda name, **arguments: asked.update(arguments))
    build.load_data(tiny_config(data__root="~/images", data__class_file="~/ids.txt"))
    assert (asked["root"], asked["class_file"]) == (tmp_path / "images", tmp_path / "ids.txt")
    build.load_data(tiny_config(data__name="cifar10", data__root="gs://bucket"))
    assert asked["root"] == "gs://bucket"
    for name in ("imagenet2012", "image_folder", "digits"):
        with pytest.raises(storage.PathError, match="is an address"):
            build.load_data(tiny_config(data__name=name, data__root="gs://bucket"))
