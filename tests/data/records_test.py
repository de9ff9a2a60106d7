"""Random access to TFRecord files, and the labels that are read once."""

import pickle
import struct
import threading

import numpy as np
import pytest

from care_jax.data import DataError, EncodedImages, records
from care_jax.data.record_index import Index


def write(path, payloads):
    with open(path, "wb") as file:
        for payload in payloads:
            file.write(struct.pack("<Q", len(payload)) + b"crc1" + payload + b"crc2")


def deserialize(data):
    """ "7:abc" -> label 7, image "abc"."""
    label, image = data.split(b":")
    return {"label": int(label), "image": image, "file_name": b"name of " + image}


def opened(files, path, deserialize=deserialize):
    return records.index_tfrecords(Index(path, files, []), deserialize, "test")


@pytest.fixture
def files(tmp_path):
    payloads = [b"%d:%s" % (i % 4, b"x" * i) for i in range(600)]
    paths = [str(tmp_path / f"shard-{i}") for i in range(4)]
    for path, part in zip(paths, (payloads[:1], payloads[1:1], payloads[1:400], payloads[400:]), strict=True):
        write(path, part)
    return paths


def test_every_record_at_any_time(files, tmp_path):
    source, labels = opened(files, tmp_path / "index.npz")
    assert len(source) == 600
    assert labels.dtype == np.int32
    assert labels.tolist() == [i % 4 for i in range(600)]
    for i in (599, 0, 1, 399, 400, 250):
        assert source[i]["image"] == b"x" * i
    for i in (-1, 600):
        with pytest.raises(IndexError):
            source[i]


def test_many_threads_read_at_once(files, tmp_path):
    source, _ = opened(files, tmp_path / "index.npz")
    wrong = []

    def read(seed):
        for i in np.random.default_rng(seed).integers(0, 600, 200):
            if source[int(i)]["image"] != b"x" * i:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_index_is_kept(files, tmp_path):
    read = []

    def counted(data):
        read.append(data)
        return deserialize(data)

    first, labels = opened(files, tmp_path / "index.npz", counted)
    assert len(read) == 600
    second, again = opened(files, tmp_path / "index.npz", counted)
    assert len(read) == 600
    np.testing.assert_array_equal(labels, again)
    assert second[77] == first[77]
    assert [path.name for path in tmp_path.iterdir() if "index" in path.name] == ["index.npz"]


def test_an_unusable_index_is_built_again(files, tmp_path):
    (tmp_path / "index.npz").write_bytes(b"not an index")
    source, _ = opened(files, tmp_path / "index.npz")
    assert source[5]["image"] == b"xxxxx"


class Payload:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["array in npz", "npy", "bare pickle"])
def test_an_index_never_executes_code(files, tmp_path, kind):
    index, trace = tmp_path / "index.npz", tmp_path / "trace"
    payload = np.array([Payload(trace)] * 600, dtype=object)
    with open(index, "wb") as file:
        if kind == "array in npz":
            np.savez(file, labels=payload, starts=payload, counts=payload)
        elif kind == "npy":
            np.save(file, payload)
        else:
            pickle.dump(payload, file)
    source, labels = opened(files, index)
    assert not trace.exists()
    assert labels.tolist() == [i % 4 for i in range(600)]  # built anew
    assert source[5]["image"] == b"xxxxx"


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"\x80\x04."])
def test_any_other_file_for_an_index_is_replaced(files, tmp_path, content):
    (tmp_path / "index.npz").write_bytes(content)
    assert len(opened(files, tmp_path / "index.npz")[0]) == 600
    np.savez(tmp_path / "index.npz", labels=np.zeros(600, np.int32))  # an index of another kind of files
    assert len(opened(files, tmp_path / "index.npz")[0]) == 600


def test_the_index_of_other_files(files, tmp_path):
    opened(files, tmp_path / "index.npz")
    write(files[0], [b"0:a", b"1:b"])
    with pytest.raises(DataError, match=r"index.npz does not belong .* delete it"):
        opened(files, tmp_path / "index.npz")


@pytest.mark.parametrize("cut", [1, 4, 9, 20])
def test_a_file_cut_off(tmp_path, cut):
    path = tmp_path / "shard"
    write(path, [b"0:abc", b"1:defg"])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match="shard is cut off"):
        records.find_records(path)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "shard"
    path.write_text("anything else, of some length")
    with pytest.raises(DataError, match="no TFRecord file"):
        records.find_records(path)


def test_images_are_rows_of_the_source(files, tmp_path):
    source, _ = opened(files, tmp_path / "index.npz")
    images = records.RecordImages(source, np.array([9, 3]), "tiny train")
    assert isinstance(images, EncodedImages)
    assert len(images) == 2
    assert images.read(1) == b"xxx"
    assert images.name(1) == "tiny train record 3 name of xxx"


def test_want_of_memory_is_no_damaged_record():
    class Source(list):
        def __getitem__(self, index):
            raise MemoryError

    with pytest.raises(MemoryError):
        records.RecordImages(Source(), np.arange(3), "tiny").read(1)
