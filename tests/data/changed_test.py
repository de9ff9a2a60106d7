"""Files that change while a run reads them stop it; those that were broken when it began are skipped."""

import errno
import io
import os
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from care_jax import data
from care_jax.augment import AugmentSpec, ViewPlan
from care_jax.data import DataError, Examples, SkippedFiles, records
from care_jax.data.files import list_files, look_up
from care_jax.data.image_folder import FolderImages
from care_jax.data.record_index import Index

SPEC = AugmentSpec(size=4, mean=(0.5,) * 3, std=(0.2,) * 3)
COUNT = 8


@pytest.fixture
def paths(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return [tmp_path / f"{i}.png" for i in range(COUNT)]


def folder(paths):
    return Examples(FolderImages(list_files(paths[0].parent, [path.name for path in paths])))


def batches(examples, placement, skipped=None):
    plan = ViewPlan(SPEC, SPEC, seed=0, batch_size=4, equivariance_batch_size=0, num_groups=1)
    arguments = {"start_step": 0, "num_steps": 1000, "num_threads": 2, "skipped": skipped}
    return data.host_batches(examples, plan, placement=placement, **arguments)


def in_order(examples, skipped=None):
    return data.batches_in_order(examples, side=8, batch_size=4, num_threads=2, skipped=skipped)


READERS = {
    "decode": lambda *arguments: batches(arguments[0], "decode", *arguments[1:]),
    "host": lambda *arguments: batches(arguments[0], "host", *arguments[1:]),
    "in order": in_order,
}


def vanish(path):
    path.unlink()


def vanish_with_its_folder(path):
    shutil.rmtree(path.parent)


def grow(path):
    with open(path, "ab") as file:
        file.write(b"more")


def empty(path):
    path.write_bytes(b"")


def become_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("change", [vanish, grow])
def test_a_changed_file_stops_the_run(paths, reader, change):
    skipped = SkippedFiles()
    examples = folder(paths)
    change(paths[2])
    with pytest.raises(DataError, match=r"2\.png (is gone|has \d+ bytes, not \d+): the image set changed") as caught:
        list(READERS[reader](examples, skipped))
    assert "\n" not in str(caught.value)
    assert "another workdir" in str(caught.value)
    assert not len(skipped)


def test_it_may_change_when_batches_were_made_already(paths):
    made = batches(folder(paths), "decode")
    next(made)
    paths[5].unlink()
    with pytest.raises(DataError, match=r"5\.png is gone"):
        for _ in range(100):
            next(made)


@pytest.mark.parametrize("reader", READERS)
def test_what_was_broken_from_the_start_is_skipped(paths, reader):
    paths[1].write_bytes(b"")
    paths[2].write_bytes(b"text")
    paths[3].write_bytes(paths[0].read_bytes()[:-300])
    paths[4].unlink()
    paths[4].symlink_to("nowhere.png")
    skipped = SkippedFiles()
    made = READERS[reader](folder(paths), skipped)
    for _ in range(2):
        next(made)
    assert {path.rpartition("/")[2]: reason for path, reason in skipped.reasons.items()} == {
        "1.png": "empty file",
        "2.png": "not an image",
        "3.png": "truncated or damaged",
        "4.png": "unreadable: no file, or a link to nowhere",
    }


@pytest.mark.parametrize("change", [vanish, vanish_with_its_folder, grow, empty, become_a_folder])
def test_each_kind_of_change_is_noticed(paths, change):
    images = folder(paths).images
    change(paths[3])
    with pytest.raises(DataError, match=r"3\.png .*: the image set changed under the run"):
        images.read(3)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ESTALE, r"3\.png is gone"),
        (errno.EMFILE, r"3\.png can't be read now \(Too many open files\): start the same command again"),
        (errno.ETIMEDOUT, r"3\.png can't be read now \(Connection timed out\)"),
        (errno.EIO, r"3\.png can't be read now \(Input/output error\): start the same command again"),
        (errno.ENOTCONN, r"3\.png can't be read now \(Transport endpoint is not connected\)"),
        (errno.EHOSTDOWN, r"3\.png can't be read now"),
    ],
)
def test_what_is_no_fault_of_the_file_skips_no_image(paths, monkeypatch, code, told):
    images = folder(paths).images
    monkeypatch.setattr("builtins.open", failing(code))
    with pytest.raises(DataError, match=told):
        images.read(3)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EFBIG])
def test_what_is_the_fault_of_the_file_is_for_the_reader_to_skip(paths, monkeypatch, code):
    images = folder(paths).images
    monkeypatch.setattr("builtins.open", failing(code))
    with pytest.raises(OSError) as caught:
        images.read(3)
    assert caught.value.errno == code and not isinstance(caught.value, DataError)


def failing(code):
    def fail(*arguments, **named):
        raise OSError(code, os.strerror(code))

    return fail


def broken_disk(monkeypatch):
    """Reading fails, where opening a file and its size still work."""

    class Unreadable(io.FileIO):
        def read(self, *size):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        readall = read

    monkeypatch.setattr("care_jax.data.files.open", lambda path, *_, **__: Unreadable(path), raising=False)


@pytest.mark.parametrize("reader", READERS)
def test_an_outage_while_batches_are_made_stops_the_run(paths, reader, monkeypatch):
    skipped, examples = SkippedFiles(), folder(paths)
    broken_disk(monkeypatch)
    with pytest.raises(DataError, match=r"\.png can't be read now \(Input/output error\): start the same") as caught:
        list(READERS[reader](examples, skipped))
    assert "\n" not in str(caught.value)
    assert not len(skipped)


@pytest.mark.parametrize("resident", [True, False])
def test_an_outage_while_the_folder_is_loaded_leaves_no_image_out(paths, resident, monkeypatch):
    broken_disk(monkeypatch)
    with pytest.raises(DataError, match=r"\.png can't be read now \(Input/output error\): start the same"):
        data.load("image_folder", root=paths[0].parent, image_size=4, resident=resident)


@pytest.mark.parametrize(
    ("error", "is_own"),
    [
        (OSError(errno.EIO, "Input/output error"), False),
        (OSError("damaged record"), True),
        (PermissionError(13, "x"), True),
    ],
)
def test_so_it_is_with_images_that_an_extension_reads(error, is_own):
    class Images:
        def __len__(self):
            return 4

        def read(self, index):
            raise error

        def name(self, index):
            return f"bucket/{index}"

    skipped = SkippedFiles()
    if is_own:
        assert not np.concatenate([mask for _, _, mask in in_order(Examples(Images()), skipped)]).any()
        assert len(skipped) == 4
    else:
        with pytest.raises(DataError, match=r"bucket/\d can't be read now \(Input/output error\)"):
            list(in_order(Examples(Images()), skipped))
        assert not len(skipped)


def test_a_parent_that_became_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "0.png")
    images = FolderImages(list_files(tmp_path, ["a/0.png"]))
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("")
    with pytest.raises(DataError, match="is gone"):
        images.read(0)


def test_a_file_too_large_for_an_image_is_not_read(tmp_path):
    with open(tmp_path / "0.png", "wb") as file:
        file.truncate(2**31)  # sparse: it takes no room
    with pytest.raises(OSError, match="too large"):
        FolderImages(list_files(tmp_path, ["0.png"])).read(0)


@pytest.mark.parametrize("resident", [True, False])
def test_a_file_may_change_while_the_folder_is_loaded(paths, resident, monkeypatch):
    from care_jax.data import folder_layout

    def look_then_vanish(root, names):
        found = look_up(root, names)
        paths[6].unlink()
        return found

    monkeypatch.setattr(folder_layout, "look_up", look_then_vanish)
    with pytest.raises(DataError, match=r"6\.png is gone"):
        data.load("image_folder", root=paths[0].parent, image_size=4, resident=resident)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(paths, monkeypatch):
    (paths[0].parent / "class").mkdir()
    listed = os.scandir

    def scandir(path="."):
        if os.fspath(path).endswith("class"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"can't look into .*class: Permission denied"):
        data.load("image_folder", root=paths[0].parent, resident=False)


def write_records(path):
    """A TFRecord file of `COUNT` records "label:image"."""
    payloads = [b"%d:x" % i for i in range(COUNT)]
    path.write_bytes(b"".join(struct.pack("<Q", len(payload)) + b"crc1" + payload + b"crc2" for payload in payloads))


def deserialize(record):
    label, image = record.split(b":")
    return {"label": int(label), "image": image}


def test_records_that_change_stop_the_run_too(tmp_path):
    path = tmp_path / "shard"
    write_records(path)
    source, _ = records.index_tfrecords(Index(tmp_path / "index.npz", [str(path)], []), deserialize, "tiny")
    examples = Examples(records.RecordImages(source, np.arange(COUNT), "tiny"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"shard has \d+ bytes, not \d+: the image set changed"):
        next(batches(examples, "decode"))
    path.unlink()
    with pytest.raises(DataError, match="shard is gone"):
        next(in_order(examples))


def test_a_damaged_record_is_skipped(tmp_path):
    path = tmp_path / "shard"
    write_records(path)
    source, _ = records.index_tfrecords(Index(tmp_path / "index.npz", [str(path)], []), deserialize, "tiny")
    path.write_bytes(path.read_bytes().replace(b"3:x", b"3xx"))
    images = records.RecordImages(source, np.arange(COUNT), "tiny")
    with pytest.raises(OSError, match="damaged record"):
        images.read(3)
    assert images.name(3) == "tiny record 3"
    assert images.read(4) == b"x"
