"""The containers: examples, labels, data sets, skipped files."""

import doctest
import threading

import numpy as np
import pytest

from care_jax.data import errors, examples
from care_jax.data.examples import DataError, DataSet, EncodedImages, Examples, SkippedFiles


def test_doctests():
    results = doctest.testmod(examples)
    assert results.attempted > 0
    assert results.failed == 0


def test_examples_check_their_arrays():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert Examples(images).resident
    assert len(Examples(images, {"class": np.zeros(2, np.int32)})) == 2
    with pytest.raises(ValueError, match="uint8"):
        Examples(images.astype(np.float32))
    with pytest.raises(ValueError, match="uint8"):
        Examples(images[..., :1])
    with pytest.raises(ValueError, match="'class'"):
        Examples(images, {"class": np.zeros(3, np.int32)})
    with pytest.raises(ValueError, match="'class'"):
        Examples(images, {"class": np.zeros(2, np.int64)})


def test_encoded_examples_are_not_resident():
    class Encoded:
        def __len__(self):
            return 3

        def read(self, index):
            return bytes([index])

        def name(self, index):
            return str(index)

    assert isinstance(Encoded(), EncodedImages)
    encoded = Examples(Encoded(), {"class": np.zeros(3, np.int32)})
    assert not encoded.resident
    assert len(encoded) == 3


def test_a_data_error_is_a_value_error_of_one_line():
    assert issubclass(DataError, ValueError)
    assert str(DataError("a\x1b[2J\nb")) == r"a\x1b[2J b"
    assert doctest.testmod(errors).failed == 0


def test_a_data_set_describes_itself():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    labels = {name: np.zeros(3, np.int32) for name in ("class", "hue")}
    one = Examples(images, labels)
    names = {"class": [f"c{i}" for i in range(8)]}
    described = DataSet("x", one, one, one, {"class": 8, "hue": 4}, class_names=names, notes=["this", "that"])
    told = "3 training and 3 test images in 8 classes (c0, c1, c2, c3, c4 and 3 more), 4 classes of hue; this; that"
    assert described.description() == told
    bare = Examples(images)
    assert DataSet("x", bare, bare, bare, {}).description() == "3 training and 3 test images, unlabelled"
    with pytest.raises(DataError, match="x has 7 classes 'class', but 8 names"):
        DataSet("x", one, one, one, {"class": 7, "hue": 4}, class_names=names)


def test_skipped_files_are_counted_once_by_many_threads():
    skipped = SkippedFiles()

    def meet():
        for i in range(200):
            skipped.add(f"{i % 50:02d}.png", "truncated" if i % 2 else "not an image")

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(skipped) == 50
    assert "07.png" in skipped
    assert "50.png" not in skipped
    assert skipped.reasons["07.png"] == "truncated"
    told = "skipped 50 image files that could not be used (25 not an image, 25 truncated), first 00.png"
    assert skipped.summary() == told


def test_the_first_reason_stands():
    skipped = SkippedFiles()
    skipped.add("a.png", "empty file")
    skipped.add("a.png", "not an image")
    assert skipped.reasons == {"a.png": "empty file"}


def test_nothing_skipped_is_nothing_to_tell():
    assert SkippedFiles().summary() == ""


def test_some_of_the_examples_are_read_where_they_lie():
    class Files:
        def __len__(self):
            return 5

        def read(self, index):
            return bytes([index])

        def name(self, index):
            return f"{index}.png"

    labels = {"class": np.arange(5, dtype=np.int32) * 10}
    rows = np.asarray([1, 4])
    some = Examples(Files(), labels).take(rows)
    assert len(some) == 2 and [some.encoded.read(i) for i in range(2)] == [b"\x01", b"\x04"]
    assert some.encoded.name(1) == "4.png" and some.labels["class"].tolist() == [10, 40]
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(Examples(pixels, labels).take(rows).pixels[:, 0, 0, 0], rows)
