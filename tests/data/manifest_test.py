"""A data set that changes under a run is refused with the difference; one that merely moved is not."""

import dataclasses
import gzip
import json
import shutil

import numpy as np
import pytest

from care_jax import data
from care_jax.data import DataError, DataSet, Examples
from care_jax.data.files import Listing, list_files


def refused(dataset, path):
    with pytest.raises(DataError) as caught:
        data.check_unchanged(dataset, path)
    message = str(caught.value)
    assert message.isprintable()  # so it is one line
    return message


def load(root, resident=False):
    return data.load("image_folder", root=root, image_size=4, resident=resident)


@pytest.mark.parametrize("resident", [True, False])
def test_the_same_folder_goes_on_wherever_it_lies(folder, tmp_path, resident):
    path = tmp_path / "data.json.gz"
    data.check_unchanged(load(folder, resident), path)
    written = path.read_bytes()
    data.check_unchanged(load(folder, resident), path)
    moved = folder.rename(tmp_path / "elsewhere")
    data.check_unchanged(load(moved, resident), path)
    assert path.read_bytes() == written
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data.json.gz", "elsewhere"]


def test_the_folder_may_be_given_relative_to_where_one_is(folder, tmp_path, monkeypatch):
    data.check_unchanged(load(folder), tmp_path / "data.json.gz")
    monkeypatch.chdir(folder)
    data.check_unchanged(load("."), tmp_path / "data.json.gz")


@pytest.mark.parametrize("resident", [True, False])
def test_what_changed_is_told(folder, tmp_path, resident):
    path = tmp_path / "data.json.gz"
    data.check_unchanged(load(folder, resident), path)
    for i in range(5):
        shutil.copy(folder / "ant" / "0.png", folder / "bee" / f"new{i}.png")
    (folder / "ant" / "3.png").unlink()
    with open(folder / "bee" / "7.png", "ab") as file:
        file.write(b"x")
    told = refused(load(folder, resident), path)
    assert "image_folder in " + str(folder) in told and str(path) in told
    assert "5 files added (bee/new0.png, bee/new1.png, bee/new2.png and 2 more)" in told
    assert "1 file removed (ant/3.png)" in told
    assert "1 file of another size (bee/7.png)" in told
    assert "another workdir" in told


def test_a_test_image_counts_too(folder, tmp_path):
    dataset = load(folder)
    data.check_unchanged(dataset, tmp_path / "data.json.gz")
    name = dataset.files["test"].names[0]
    (folder / name).write_bytes(b"")
    assert f"1 file of another size ({name})" in refused(load(folder), tmp_path / "data.json.gz")


def test_other_images_that_decode(folder, tmp_path):
    """Of one size, but broken: what is left in memory has other indices."""
    data.check_unchanged(load(folder, resident=True), tmp_path / "data.json.gz")
    broken = folder / "ant" / "0.png"
    broken.write_bytes(b"x" * broken.stat().st_size)
    told = refused(load(folder, resident=True), tmp_path / "data.json.gz")
    assert "pretrain part has 17 examples, not 18" in told


def test_order_and_part_are_part_of_it(tmp_path):
    examples = Examples(np.zeros((2, 4, 4, 3), np.uint8))
    one, two = (Listing("r", names, np.array([1, 1])) for names in (["a", "b"], ["b", "a"]))
    three = Listing("r", ["c"], np.array([5]))
    dataset = DataSet("set", examples, examples, examples, {}, files={"train": one, "test": three})
    data.check_unchanged(dataset, tmp_path / "m")
    for files in ({"train": two, "test": three}, {"train": three, "test": one}):
        assert "another order" in refused(dataclasses.replace(dataset, files=files), tmp_path / "m")


def test_names_of_any_bytes(tmp_path):
    names = ["line\nbreak.png", "\udcff.png", "ß 雪.png"]
    examples = Examples(np.zeros((2, 4, 4, 3), np.uint8))
    listing = Listing("r\ns", names, np.array([1, 2, 3]))
    dataset = DataSet("set", examples, examples, examples, {}, files={"train": listing})
    data.check_unchanged(dataset, tmp_path / "m")
    data.check_unchanged(dataset, tmp_path / "m")
    fewer = dataclasses.replace(dataset, files={"train": Listing("r\ns", [], np.array([], int))})
    told = refused(fewer, tmp_path / "m")
    assert r"3 files removed (line break.png, \udcff.png, ß 雪.png)" in told


def arrays(pixels=0, count=4, label=0, size=4):
    images = np.zeros((count, size, size, 3), np.uint8)
    images[-1, -1, -1, -1] = pixels
    train = Examples(images, {"class": np.full(count, label, np.int32)})
    return DataSet("noise", train, train, train, {"class": 2})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pixels": 1}, "the pixels of its pretrain part differ;"),
        ({"count": 5}, "its pretrain part has 5 examples, not 4;"),
        ({"label": 1}, "the labels of its pretrain part differ (class);"),
        ({"size": 5}, "the shape of its pretrain part differs ([5, 5, 3], not [4, 4, 3]);"),
    ],
)
def test_arrays_are_told_apart_by_what_they_hold(tmp_path, changes, told):
    data.check_unchanged(arrays(), tmp_path / "m")
    data.check_unchanged(arrays(), tmp_path / "m")
    assert told in refused(arrays(**changes), tmp_path / "m")


def test_records_of_before_call_the_classes_label(tmp_path):
    def call_them_label(header):
        for part in header["parts"].values():
            part["labels"] = {"label": part["labels"].pop("class")}

    data.check_unchanged(arrays(), tmp_path / "m")
    rewritten(tmp_path / "m", call_them_label)
    data.check_unchanged(arrays(), tmp_path / "m")
    assert "the labels of its pretrain part differ (class);" in refused(arrays(label=1), tmp_path / "m")


def test_digits(tmp_path):
    for _ in range(2):
        data.check_unchanged(data.load("digits", image_size=8), tmp_path / "m")
    assert "the shape" in refused(data.load("digits", image_size=9), tmp_path / "m")


def rewritten(path, change):
    lines = gzip.decompress(path.read_bytes()).splitlines()
    header = json.loads(lines[0])
    change(header)
    path.write_bytes(gzip.compress(b"\n".join([json.dumps(header).encode(), *lines[1:]])))


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not gzip"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:60] + b"\xff\x00\xff" + path.read_bytes()[63:]),
    "no lines": lambda path: path.write_bytes(gzip.compress(b"")),
    "a line lost": lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).split(b"\n")[0])),
    "other json": lambda path: path.write_bytes(gzip.compress(b"[1, 2]\n")),
    "nested": lambda path: path.write_bytes(gzip.compress(b"[" * 100_000)),
    "bytes": lambda path: path.write_bytes(gzip.compress(b"\xff\xfe\n")),
    "version": lambda path: rewritten(path, lambda header: header.update(version=99)),
    "no parts": lambda path: rewritten(path, lambda header: header.update(parts={})),
    "odd parts": lambda path: rewritten(path, lambda header: header.update(parts=3)),
    "odd labels": lambda path: rewritten(path, lambda header: header["parts"]["test"].pop("labels")),
    "odd files": lambda path: rewritten(path, lambda header: header.update(files={"train": "many"})),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_one_clear_line(folder, tmp_path, damage):
    path = tmp_path / "data.json.gz"
    dataset = load(folder)
    data.check_unchanged(dataset, path)
    DAMAGE[damage](path)
    told = refused(dataset, path)
    assert str(path) in told
    assert "delete it" in told


def test_a_record_that_cannot_be_written(tmp_path):
    told = refused(arrays(), tmp_path / "none" / "m")
    assert "can't be written: No such file or directory" in told


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left on device" in refused(arrays(), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_what_is_no_file_has_no_size(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c").mkdir()
    assert list_files(tmp_path, ["a", "b", "c", "d"]).sizes.tolist() == [3, -1, -1, -1]
