"""Tinted Fashion-MNIST: read from idx files as Debian and torchvision lay them out; what is none is one line."""

import gzip
import struct

import numpy as np
import pytest

from care_jax import data
from care_jax.data import fashion
from care_jax.data.errors import DataError
from care_jax.data.tints import hue_to_rgb

TRAIN, TEST = 30, 20


def _packed(content: bytes) -> bytes:
    """Without the time: parameters of tests have to be the same wherever the file is imported."""
    return gzip.compress(content, mtime=0)


def _idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for begins, count in (("train", TRAIN), ("t10k", TEST)):
        found[f"{begins}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        found[f"{begins}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    return found


@pytest.fixture
def folder(tmp_path):
    for name, array in _arrays().items():
        (tmp_path / f"{name}.gz").write_bytes(_packed(_idx(array)))
    return tmp_path


def test_every_photograph_has_its_class_and_a_hue_that_can_be_read_off(folder):
    found = data.load("fashion", root=folder)
    assert found.name == "fashion" and found.pretrain is found.train
    told = (
        "30 training and 20 test images in 10 classes (T-shirt, trouser, pullover, dress, coat and 5 more), 8 classes"
    )
    assert found.description() == f"{told} of hue"
    arrays = _arrays()
    for examples, begins in ((found.train, "train"), (found.test, "t10k")):
        gray = arrays[f"{begins}-images-idx3-ubyte"]
        assert examples.images.shape == (*gray.shape, 3) and examples.images.dtype == np.uint8
        np.testing.assert_array_equal(examples.labels["class"], arrays[f"{begins}-labels-idx1-ubyte"])
        # A white pixel would have the tint itself.
        brightest = gray.reshape(len(gray), -1).argmax(1)
        tints = examples.images.reshape(len(gray), -1, 3)[np.arange(len(gray)), brightest]
        middles = np.round(255 * hue_to_rgb((np.arange(8) + 0.5) / 8))
        nearest = np.abs(tints[:, None].astype(float) - middles).sum(-1).argmin(1)
        away = np.abs(nearest - examples.labels["hue"])
        assert np.all(np.minimum(away, 8 - away) <= 1) and len(set(examples.labels["hue"])) > 4
    again = data.load("fashion", root=str(folder))
    np.testing.assert_array_equal(again.train.images, found.train.images)
    np.testing.assert_array_equal(again.test.labels["hue"], found.test.labels["hue"])


@pytest.mark.parametrize("below", ["raw", "FashionMNIST/raw"])
def test_torchvisions_folders_and_unpacked_files_are_read(folder, tmp_path, below):
    packed = data.load("fashion", root=folder, image_size=14)
    assert packed.train.images.shape == (TRAIN, 14, 14, 3)
    (tmp_path / "there" / below).mkdir(parents=True)
    for name, array in _arrays().items():
        (tmp_path / "there" / below / name).write_bytes(_idx(array))
    unpacked = data.load("fashion", root=tmp_path / "there", image_size=14)
    np.testing.assert_array_equal(unpacked.test.images, packed.test.images)


def _cut(content: bytes) -> bytes:
    return content[:-1]


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
GOOD = _arrays()


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        (IMAGES, None, "has no train-images-idx3-ubyte, nor train-images-idx3-ubyte.gz; apt-get install dataset-fash"),
        (LABELS, None, "has no t10k-labels-idx1-ubyte"),
        (IMAGES, b"no gzip", "can't be read"),
        (IMAGES, _packed(b"x" * 1000)[:-20], "can't be read"),
        (IMAGES, _packed(b""), "is no whole idx file of bytes in 3 dimensions"),
        (IMAGES, _packed(_idx(GOOD[IMAGES[:-3]])[:-1]), "is no whole idx file"),
        (IMAGES, _packed(_idx(GOOD[IMAGES[:-3]]) + b"0"), "is no whole idx file"),
        (IMAGES, _packed(_idx(GOOD[IMAGES[:-3]], kind=13)), "is no whole idx file"),
        (IMAGES, _packed(_idx(np.zeros((0, 28, 28), np.uint8))), "is no whole idx file"),
        (IMAGES, _packed(_idx(GOOD[IMAGES[:-3]][:7])), "holds 7 train images and 30 labels that are no Fashion"),
        (LABELS, _packed(_idx(np.full(TEST, 10, np.uint8))), "holds 20 test images and 20 labels that are no"),
        (LABELS, _packed(_idx(np.zeros((TEST, 1), np.uint8))), "is no whole idx file of bytes in 1 dim"),
    ],
)
def test_what_is_no_such_file_is_one_line(folder, file, content, told):
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        data.load("fashion", root=folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_without_the_package_its_name_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "PACKAGED", tmp_path / "none")
    with pytest.raises(DataError, match=r"/none has no train-images.*apt-get install dataset-fashion-mnist, or give"):
        data.load("fashion")
    with pytest.raises(DataError, match="image_size must be >= 1, got 0"):
        data.load("fashion", image_size=0)


@pytest.mark.skipif(not fashion.PACKAGED.exists(), reason="dataset-fashion-mnist is not installed")
@pytest.mark.slow
def test_debians_package_is_what_was_published():
    found = data.load("fashion")
    assert (len(found.train), len(found.test)) == (60_000, 10_000) and found.train.images.shape[1:] == (28, 28, 3)
    for examples, share in ((found.train, 6000), (found.test, 1000)):
        assert np.bincount(examples.labels["class"]).tolist() == [share] * 10
    # The tints are part of published numbers; a change must be a decision.
    assert found.train.labels["class"][:8].tolist() == [9, 0, 0, 3, 0, 2, 7, 2]
    assert found.train.labels["hue"][:8].tolist() == [6, 7, 6, 0, 0, 2, 7, 7]
