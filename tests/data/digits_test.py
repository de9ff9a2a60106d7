"""Tinted digits: the tint can be read off, and gray copies say nothing of it."""

import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from sklearn.datasets import load_digits

from care_jax import data
from care_jax.augment import color
from care_jax.data.digits import _scans
from care_jax.data.tints import HUE_CLASSES, hue_to_rgb


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def _hue(rgb):
    """Hue in turns, by the textbook, of [n, 3] colours that are not gray."""
    high, low = rgb.max(-1), rgb.min(-1)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    sector = np.where(
        high == red,
        (green - blue) / (high - low),
        np.where(high == green, 2 + (blue - red) / (high - low), 4 + (red - green) / (high - low)),
    )
    return sector / 6 % 1


def test_sizes_and_labels(digits):
    assert digits.num_classes == {"class": 10, "hue": HUE_CLASSES}
    told = "1438 training and 359 test images in 10 classes (0, 1, 2, 3, 4 and 5 more), 8 classes of hue"
    assert digits.description() == told
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert digits.pretrain is digits.train
    for examples in (digits.train, digits.test):
        assert examples.images.shape[1:] == (32, 32, 3)
        assert set(examples.labels) == {"class", "hue"}
        for name, count in digits.num_classes.items():
            assert sorted(set(examples.labels[name])) == list(range(count))


def test_the_split_is_stratified(digits):
    share = np.bincount(digits.test.labels["class"]) / np.bincount(digits.train.labels["class"])
    np.testing.assert_allclose(share, 0.25, atol=0.01)


def test_train_and_test_share_no_image(digits):
    seen = {image.tobytes() for image in digits.train.images}
    assert len(seen) == len(digits.train)
    assert not any(image.tobytes() in seen for image in digits.test.images)


def test_it_never_changes(digits):
    again = data.load("digits", image_size=32)
    np.testing.assert_array_equal(again.train.images, digits.train.images)
    np.testing.assert_array_equal(again.test.labels["hue"], digits.test.labels["hue"])
    # The split and the tints are part of published numbers; a change of either must be a decision.
    assert digits.test.labels["class"][:8].tolist() == [7, 8, 2, 7, 7, 3, 8, 0]
    assert digits.test.labels["hue"][:8].tolist() == [2, 2, 6, 1, 1, 6, 6, 1]


def test_the_hue_label_can_be_read_off_the_pixels(digits):
    pixels = digits.test.images.reshape(len(digits.test), -1, 3).astype(float)
    brightest = pixels[np.arange(len(pixels)), pixels.sum(-1).argmax(-1)]
    read = np.floor(_hue(brightest) * HUE_CLASSES)
    assert np.mean(read == digits.test.labels["hue"]) > 0.99  # bytes blur a hue at the edge of its bin


def test_tints_have_their_hue_and_one_luminance():
    hue = np.linspace(0, 1, 97, endpoint=False)
    rgb = hue_to_rgb(hue)
    np.testing.assert_allclose(_hue(rgb), hue, atol=1e-9)
    np.testing.assert_allclose(rgb @ [0.299, 0.587, 0.114], 0.468, atol=1e-3)
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_gray_copies_say_nothing_of_the_hue(digits):
    gray = np.asarray(color.to_grayscale(digits.train.images / np.float32(255)))
    peak = gray.max(axis=(1, 2, 3))
    by_hue = [np.median(peak[digits.train.labels["hue"] == hue]) for hue in range(HUE_CLASSES)]
    assert np.ptp(by_hue) < 2 / 255


def test_other_sizes(digits):
    small = data.load("digits", image_size=8).train.images
    assert small.shape[1:] == (8, 8, 3)
    shrunk = digits.train.images.astype(float).reshape(-1, 8, 4, 8, 4, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 8  # the same pictures
    with pytest.raises(ValueError, match="image_size"):
        data.load("digits", image_size=0)


@pytest.mark.parametrize("moved", [False, True])
def test_the_scans_are_scikit_learns(monkeypatch, tmp_path, moved):
    """Read from its file, and asked of it where the file is not where it was."""
    if moved:
        elsewhere = ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: elsewhere)
    scans, digits = _scans()
    bundled = load_digits()
    np.testing.assert_array_equal(scans, bundled.images)
    np.testing.assert_array_equal(digits, bundled.target)


def test_without_scikit_learn_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(data.DataError, match=r"needs scikit-learn, .*: pip install scikit-learn"):
        _scans()


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(ValueError, match=r"'mnist'.*digits.*image_folder.*cifar10.*imagenet2012"):
        data.load("mnist")


def test_more_pixels_than_memory_are_one_line(monkeypatch):
    def full(images, size):
        raise MemoryError

    monkeypatch.setattr("care_jax.data.digits._enlarge", full)
    with pytest.raises(data.DataError, match="digits at image_size 100000 does not fit into memory"):
        data.load("digits", image_size=100_000)
