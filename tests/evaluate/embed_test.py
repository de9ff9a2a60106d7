"""Whole sets embedded: unreadable images left out, features nowhere twice, and a stop between two batches."""

import tracemalloc
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from care_jax.augment import AugmentSpec
from care_jax.data import Examples, SkippedFiles
from care_jax.devices import sharding
from care_jax.evaluate.embed import Embedder


class FirstPixel(linen.Module):
    """512 features and an embedding of one number: the red of the first pixel."""

    @linen.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        red = images[:, 0, 0, :1]
        return jnp.tile(red, 512), red


def embedder_of(num_devices: int, batch_size: int) -> Embedder:
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    spec = AugmentSpec(size=8, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    return Embedder(FirstPixel(), mesh, spec, batch_size=batch_size, skipped=SkippedFiles())


@pytest.mark.parametrize("num_devices", [1, 8])
def test_images_that_cannot_be_read_are_left_out_everywhere(num_devices, monkeypatch):
    images = np.arange(27, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    embedder = embedder_of(num_devices, 8)
    readable = np.delete(np.arange(27), [0, 9, 26])
    read = embedder.batches
    monkeypatch.setattr(
        embedder,
        "batches",
        lambda examples: ((pixels, rows, mask & np.isin(rows, readable)) for pixels, rows, mask in read(examples)),
    )
    found = embedder({}, Examples(images))
    np.testing.assert_array_equal(found.rows, readable)
    np.testing.assert_allclose(found.embeddings[:, 0], readable, atol=1e-4)
    np.testing.assert_allclose(found.features.numpy()[:, 7], readable, atol=1e-4)


def test_features_are_there_once_and_never_on_the_host():
    examples, embedder = Examples(np.zeros((8000, 8, 8, 3), np.uint8)), embedder_of(8, 400)
    embedder({}, examples)  # what is compiled stays
    before = sum(array.nbytes for array in jax.live_arrays())
    tracemalloc.start()
    found = embedder({}, examples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    features = 8000 * 512 * 4
    assert found.features.array.nbytes == features
    assert sum(array.nbytes for array in jax.live_arrays()) - before < 1.2 * features
    assert peak < 0.1 * features


def test_it_asks_before_each_batch_whether_to_go_on(monkeypatch):
    check = Mock(side_effect=[None, None, InterruptedError])
    mesh = sharding.make_mesh(jax.devices()[:1])
    embedder = Embedder(
        Mock(),
        mesh,
        AugmentSpec(size=8, mean=(0.5,) * 3, std=(0.5,) * 3),
        batch_size=2,
        skipped=SkippedFiles(),
        check=check,
    )
    made = jax.device_put(np.zeros((2, 1), np.float32), sharding.along_axis(mesh, 0))
    batches = Mock(return_value=(made, np.zeros((2, 1), np.float32), np.ones(2, bool)))
    monkeypatch.setattr(embedder, "_forward", batches)
    with pytest.raises(InterruptedError):
        embedder({}, Examples(np.zeros((7, 8, 8, 3), np.uint8), {}))
    assert batches.call_count == 2
