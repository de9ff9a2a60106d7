"""Files are there whole, the old one or the new one."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from care_jax import storage
from care_jax.experiment import build


def test_a_file_is_replaced_and_leaves_no_draft(tmp_path):
    storage.replace_file(tmp_path / "a.json", "old")
    opened = len(os.listdir("/proc/self/fd"))
    storage.replace_file(tmp_path / "a.json", "new é")
    assert len(os.listdir("/proc/self/fd")) == opened
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "new é"
    storage.replace_file(tmp_path / "b", b"\0")
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b"]


def test_its_bytes_are_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    done = []
    rename = os.replace

    def note_flush(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append((path.parent, path.read_text()) if path.is_file() else path)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("renamed"), rename(*names))[1])
    storage.replace_file(tmp_path / "a", "text")
    assert done == [(tmp_path, "text"), "renamed", tmp_path]


def test_what_fails_leaves_the_old_file(tmp_path, monkeypatch):
    storage.replace_file(tmp_path / "a", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.replace_file(tmp_path / "a", "new")
    with pytest.raises(UnicodeEncodeError):
        storage.replace_file(tmp_path / "a", "\udcff")
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
    images = SimpleNamespace(clouds=False)
    monkeypatch.setattr(build.data, "load", lambda name, **arguments: asked.update(arguments) or images)
    build.load_data(tiny_config(data__root="~/images", data__class_file="~/ids.txt"))
    assert (asked["root"], asked["class_file"]) == (tmp_path / "images", tmp_path / "ids.txt")
    build.load_data(tiny_config(data__name="cifar10", data__root="gs://bucket"))
    assert asked["root"] == "gs://bucket"
    for name in ("imagenet2012", "image_folder", "digits"):
        with pytest.raises(storage.PathError, match="is an address"):
            build.load_data(tiny_config(data__name=name, data__root="gs://bucket"))


def test_an_error_names_the_file_and_not_its_draft(tmp_path):
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        storage.replace_file(tmp_path / "summary.json", "text")
    assert caught.value.filename == str(tmp_path / "summary.json")
    assert os.listdir(tmp_path) == ["summary.json"]


def test_a_tree_is_flushed_files_before_their_folders(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("c", "a/d", "a/b/e"):
        (tmp_path / name).write_text(name)
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    storage.flush_tree(tmp_path)
    assert [os.path.relpath(path, tmp_path) for path in flushed] == ["a/b/e", "a/b", "a/d", "a", "c", "."]


@pytest.mark.parametrize("name", ["EINVAL", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_that_flushes_nothing_is_written_all_the_same(tmp_path, monkeypatch, name):
    def refuse(descriptor):
        raise OSError(getattr(errno, name), "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    storage.replace_file(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_what_is_set_aside_replaces_nothing(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "a.json").write_text(content)
        storage.set_aside(tmp_path / "a.json")
    (tmp_path / "a.json.damaged-2").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a.json").mkdir()
    assert storage.set_aside(tmp_path / "a.json") == tmp_path / "a.json.damaged-3"
    assert (tmp_path / "a.json.damaged").read_text() == "first"
    assert (tmp_path / "a.json.damaged-1").read_text() == "second"


def test_whether_an_open_file_is_still_in_its_place(tmp_path):
    path = tmp_path / "folder" / "a"
    path.parent.mkdir()
    with path.open("w") as file:
        assert storage.is_same_file(file.fileno(), path)
        (tmp_path / "folder").rename(tmp_path / "moved")
        assert not storage.is_same_file(file.fileno(), path)
        path.parent.mkdir()
        path.write_text("")
        assert not storage.is_same_file(file.fileno(), path)
        assert storage.is_same_file(file.fileno(), tmp_path / "moved" / "a")
        assert not storage.is_same_file(file.fileno(), tmp_path / "moved" / "a" / "b")
        (tmp_path / "link").symlink_to(tmp_path / "moved" / "a")
        assert storage.is_same_file(file.fileno(), tmp_path / "link")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(OSError, match="symbolic links"):  # what can't be looked at need not be gone
            storage.is_same_file(file.fileno(), tmp_path / "loop")


def test_a_folder_made_for_files_goes_where_the_work_fails(tmp_path):
    out = tmp_path / "a" / "b"
    with storage.folder_for(out, ["x"], "--out"):
        (out / "x").touch()
    with pytest.raises(KeyboardInterrupt), storage.folder_for(out, ["x"], "--out"):
        raise KeyboardInterrupt
    assert (out / "x").exists()  # it was there before
    with pytest.raises(ZeroDivisionError), storage.folder_for(tmp_path / "c" / "d", ["x"], "--out"):
        1 / 0  # noqa: B018
    assert not (tmp_path / "c").exists()
    with pytest.raises(ZeroDivisionError), storage.folder_for(tmp_path / "e", ["x"], "--out"):
        (tmp_path / "e" / "half").touch()
        1 / 0  # noqa: B018
    assert (tmp_path / "e" / "half").exists()
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(storage.PathError, match="--out"), storage.folder_for(wrong, ["x"], "--out"):
            raise AssertionError("never")
    (out / "y").mkdir()
    with pytest.raises(storage.PathError, match="it is a folder"), storage.folder_for(out, ["y"], "--out"):
        raise AssertionError("never")
