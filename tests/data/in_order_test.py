"""Every example once, in order, whatever is broken and however the batches fall."""

import numpy as np
import pytest
from image_bytes import Encoded, encode, smooth
from PIL import Image

from care_jax import data
from care_jax.data import Examples, SkippedFiles

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def images():
    return [smooth(20 - i, 12 + i, RNG) for i in range(11)]


@pytest.fixture(scope="module")
def encoded(images):
    return Examples(Encoded([encode(image) for image in images]))


def expected(image):
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((8, 8), Image.Resampling.BILINEAR))


def test_squares_in_order(encoded, images):
    batches = list(data.batches_in_order(encoded, side=8, batch_size=4))
    assert [batch[0].shape for batch in batches] == [(4, 8, 8, 3)] * 3
    assert [batch[1].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0]]
    assert [batch[2].tolist() for batch in batches] == [[True] * 4, [True] * 4, [True, True, True, False]]
    assert (batches[0][0].dtype, batches[0][1].dtype, batches[0][2].dtype) == (np.uint8, np.int32, np.bool_)
    pixels = np.concatenate([batch[0] for batch in batches])
    np.testing.assert_array_equal(pixels[:11], [expected(image) for image in images])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12, 24])
def test_each_example_is_counted_once(encoded, batch_size):
    counted = np.zeros(11, int)
    for _, indices, mask in data.batches_in_order(encoded, side=8, batch_size=batch_size):
        assert indices.shape == mask.shape == (batch_size,)
        np.add.at(counted, indices[mask], 1)
    assert (counted == 1).all()


def test_unreadable_images_are_masked_and_counted(encoded):
    files = list(encoded.images.files)
    files[0], files[5], files[10] = b"", files[5][:-40], b"text"
    skipped = SkippedFiles()
    batches = list(data.batches_in_order(Examples(Encoded(files)), side=8, batch_size=3, skipped=skipped))
    indices, mask = (np.concatenate([batch[i] for batch in batches]) for i in (1, 2))
    assert indices.tolist() == [*range(11), 0]
    assert indices[mask].tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert set(skipped.reasons) == {"file 0", "file 5", "file 10"}


def test_processes_make_the_parts_of_each_batch(encoded):
    whole = list(data.batches_in_order(encoded, side=8, batch_size=4))
    parts = [data.batches_in_order(encoded, side=8, batch_size=4, process_index=p, process_count=2) for p in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        for i in range(3):
            np.testing.assert_array_equal(batch[i], np.concatenate([first[i], second[i]]))


@pytest.mark.parametrize("process_count", [1, 3])
def test_resident_examples(process_count):
    pixels = RNG.integers(0, 256, (11, 5, 7, 3), dtype=np.uint8)
    examples = Examples(pixels)
    arguments = {"side": 8, "batch_size": 6, "process_count": process_count}
    parts = [data.batches_in_order(examples, process_index=p, **arguments) for p in range(process_count)]
    batches = [tuple(map(np.concatenate, zip(*part, strict=True))) for part in zip(*parts, strict=True)]
    images, indices, mask = map(np.concatenate, zip(*batches, strict=True))
    assert indices.dtype == np.int32 and indices.tolist() == [*range(11), 0]
    assert mask.tolist() == [True] * 11 + [False]
    np.testing.assert_array_equal(images[:11], pixels)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": 4, "process_count": 3}])
def test_errors(encoded, arguments):
    with pytest.raises(ValueError, match="batch"):
        data.batches_in_order(encoded, side=8, **arguments)
