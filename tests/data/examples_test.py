"""The containers: examples, labels, data sets."""

import doctest

import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.data import errors, examples
from care_jax.data.examples import DataError, DataSet, EncodedImages, Examples


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


@pytest.mark.parametrize(
    "images",
    [[[[[0] * 3] * 4] * 4] * 2, jnp.zeros((2, 4, 4, 3), jnp.uint8), (b"one",), None],
    ids=lambda x: type(x).__name__,
)
def test_images_that_are_neither_an_array_nor_encoded_are_one_line(images):
    with pytest.raises(
        DataError, match=r"^images must be a NumPy array, or have len, read.*; got .*: np\.asarray"
    ) as error:
        Examples(images)
    assert type(images).__name__ in str(error.value)


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


def _clouds(n=3, length=5):
    clouds = np.zeros((n, length, 4), np.float32)
    clouds[:, :3] = 1.0
    clouds[..., 0] *= np.arange(n)[:, None]
    return clouds


def test_clouds_are_examples_too():
    names = ("one", "two", "three")
    examples = Examples(_clouds(), {"class": np.arange(3, dtype=np.int32)}, names)
    assert examples.clouds and examples.resident and examples.noun == "clouds" and len(examples) == 3
    some = examples.take(np.array([2, 0]))
    assert some.names == ["three", "one"] and some.labels["class"].tolist() == [2, 0]
    np.testing.assert_array_equal(some.pixels, _clouds()[[2, 0]])
    images = Examples(np.zeros((2, 4, 4, 3), np.uint8))
    assert not images.clouds and images.noun == "images" and not images.take(np.array([1])).names
    with pytest.raises(DataError, match="there are 2 names of 3 examples"):
        Examples(_clouds(), names=("one", "two"))


def _with(where, value):
    clouds = _clouds()
    clouds[where] = value
    return clouds


@pytest.mark.parametrize(
    ("clouds", "line"),
    [
        (_clouds().astype(np.float64), r"must be float32 \[n, L, 4\] with L above 0, got float64 \[3, 5, 4\]"),
        (_clouds().astype(np.uint8), "got uint8"),
        (_clouds()[..., :3], r"got float32 \[3, 5, 3\]"),
        (_clouds()[:, :0], r"got float32 \[3, 0, 4\]"),
        (_with((1, 2, 0), np.nan), r"must be finite; clouds\[1, 2, 0\] is nan"),
        (_with((1, 4, 2), np.inf), r"must be finite; clouds\[1, 4, 2\] is inf"),  # in the padding too
        (_with((2, 0, 3), np.nan), r"must be finite; clouds\[2, 0, 3\]"),
        (_with((0, 1, 3), 0.5), r"end with 1, or be all 0 where there is no point; clouds\[0, 1\] is .*0\.5\]"),
        (_with((0, 1, 3), 2.0), r"clouds\[0, 1\] is \[0\.0, 1\.0, 1\.0, 2\.0\]"),
        (_with((1, 4, 1), 7.0), r"clouds\[1, 4\] is \[0\.0, 7\.0, 0\.0, 0\.0\]"),
        (_with((1, 0, 3), 0.0), r"clouds\[1, 0\] is"),
        (_with(2, 0.0), r"clouds must have a point; clouds\[2\] has none"),
    ],
)
def test_what_is_no_cloud_is_one_line(clouds, line):
    with pytest.raises(DataError, match=line) as error:
        Examples(clouds)
    assert "\n" not in str(error.value)


def test_a_data_set_is_of_one_kind():
    clouds, images = Examples(_clouds()), Examples(np.zeros((2, 4, 4, 3), np.uint8))
    dataset = DataSet("chains", clouds, clouds, clouds, {}, notes=["that"])
    assert dataset.clouds and dataset.description() == "3 training and 3 test clouds, unlabelled; that"
    for parts in ((clouds, clouds, images), (clouds, images, clouds), (images, clouds, images)):
        with pytest.raises(DataError, match="the parts of mixed are clouds and images: make all of them one kind"):
            DataSet("mixed", *parts, {})
    with pytest.raises(DataError, match="the test part of chains holds no clouds"):
        DataSet("chains", clouds, clouds, clouds.take(np.array([], int)), {})
