"""Every example once, in order, whatever is broken and however the batches fall."""

import io

import numpy as np
import pytest
from PIL import Image

from care_jax import augment, data
from care_jax.augment import AugmentSpec
from care_jax.data import Examples, SkippedFiles

RNG = np.random.default_rng(0)
SPEC = AugmentSpec(size=8, center_fraction=0.75, mean=(0.5,) * 3, std=(0.2,) * 3, flip_probability=1.0)


class Encoded:
    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def read(self, index):
        return self.files[index]

    def name(self, index):
        return f"file {index}"


@pytest.fixture(scope="module")
def images():
    coarse = [Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(11)]
    return [image.resize((12 + i, 20 - i), Image.Resampling.BICUBIC) for i, image in enumerate(coarse)]


@pytest.fixture(scope="module")
def encoded(images):
    files = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.append(buffer.getvalue())
    return Examples(Encoded(files))


def expected(image):
    drawn = augment.identity(SPEC, height=image.height, width=image.width)
    top, left, height, width = (int(x) for x in drawn[:4])
    cut = image.crop((left, top, left + width, top + height)).resize((8, 8), Image.Resampling.BILINEAR)
    return np.asarray(cut, np.float32) / 255


def test_centres_in_order(encoded, images):
    batches = list(data.evaluation_batches(encoded, SPEC, batch_size=4))
    assert [batch[0].shape for batch in batches] == [(4, 8, 8, 3)] * 3
    assert [batch[1].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0]]
    assert [batch[2].tolist() for batch in batches] == [[True] * 4, [True] * 4, [True, True, True, False]]
    assert (batches[0][0].dtype, batches[0][1].dtype, batches[0][2].dtype) == (np.float32, np.int32, np.bool_)
    pixels = np.concatenate([batch[0] for batch in batches])
    np.testing.assert_allclose(pixels[:11], [expected(image) for image in images], atol=1e-6)
    assert (pixels[11] == 0).all()


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12, 24])
def test_each_example_is_counted_once(encoded, batch_size):
    counted = np.zeros(11, int)
    for _, indices, mask in data.evaluation_batches(encoded, SPEC, batch_size=batch_size):
        assert indices.shape == mask.shape == (batch_size,)
        np.add.at(counted, indices[mask], 1)
    assert (counted == 1).all()


def test_unreadable_images_are_masked_and_counted(encoded):
    files = list(encoded.images.files)
    files[0], files[5], files[10] = b"", files[5][:-40], b"text"
    skipped = SkippedFiles()
    batches = list(data.evaluation_batches(Examples(Encoded(files)), SPEC, batch_size=3, skipped=skipped))
    indices, mask = (np.concatenate([batch[i] for batch in batches]) for i in (1, 2))
    assert indices.tolist() == [*range(11), 0]
    assert indices[mask].tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert (np.concatenate([batch[0] for batch in batches])[~mask] == 0).all()
    assert set(skipped.reasons) == {"file 0", "file 5", "file 10"}


def test_processes_make_the_parts_of_each_batch(encoded):
    whole = list(data.evaluation_batches(encoded, SPEC, batch_size=4))
    parts = [data.evaluation_batches(encoded, SPEC, batch_size=4, process_index=p, process_count=2) for p in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        for i in range(3):
            np.testing.assert_array_equal(batch[i], np.concatenate([first[i], second[i]]))


def test_resident_examples(images):
    square = np.stack([np.asarray(image.resize((8, 8))) for image in images])
    spec = AugmentSpec(size=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    batches = list(data.evaluation_batches(Examples(square), spec, batch_size=6))
    np.testing.assert_allclose(np.concatenate([b[0] for b in batches])[:11], square / 255, atol=1e-6)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": 4, "process_count": 3}])
def test_errors(encoded, arguments):
    with pytest.raises(ValueError, match="batch"):
        data.evaluation_batches(encoded, SPEC, **arguments)
