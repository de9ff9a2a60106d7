"""The measures of equivariance on encoders whose answer is known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from care_jax import metrics
from care_jax.augment import NUM_UNIFORMS, AugmentSpec
from care_jax.data import Examples, SkippedFiles
from care_jax.devices import sharding
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.equivariance_error import Equivariance, measure
from care_jax.evaluate.retrieval import hue_retrieval

OFF = {
    "flip_probability": 0.0,
    "jitter_probability": 0.0,
    "grayscale_probability": 0.0,
    "blur_probability": 0.0,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
}
PLAIN = AugmentSpec(size=8, crop="center", **OFF)
OPTIMIZED = True
HUE = AugmentSpec(
    size=8, crop="center", **{**OFF, "jitter_probability": 1.0}, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.5
)


class MeanColor(linen.Module):
    """The mean colour, centred on gray: turning the hue of a pure tint permutes and mixes it."""

    @linen.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        color = jnp.mean(images, axis=(1, 2))
        color = color - jnp.mean(color, axis=-1, keepdims=True)
        return color, color / jnp.maximum(jnp.linalg.norm(color, axis=-1, keepdims=True), 1e-9)


class Noise(MeanColor):
    """An embedding that no rotation carries along: a hash of the pixels."""

    @linen.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        z = jnp.sin(1e3 * jnp.mean(images, axis=(1, 2)) @ jnp.asarray([[1.0, 2, 3], [5, 1, 2], [2, 7, 1]]))
        return z, z / jnp.linalg.norm(z, axis=-1, keepdims=True)


def _tinted(n: int) -> Examples:
    """Plain squares of one colour, hues all around the circle."""
    hues = np.linspace(0, 1, n, endpoint=False)
    channels = [np.clip(np.abs((hues * 6 - shift) % 6 - 3) - 1, 0, 1) for shift in (0, 2, 4)]
    colors = np.round(255 * np.stack(channels, axis=-1)).astype(np.uint8)
    return Examples(images=np.broadcast_to(colors[:, None, None], (n, 8, 8, 3)).copy())


def _embedder(module: linen.Module, devices: int = 1, batch_size: int = 16) -> Embedder:
    mesh = sharding.make_mesh(jax.devices()[:devices])
    return Embedder(module, mesh, PLAIN, batch_size=batch_size, skipped=SkippedFiles())


def _measured(embedder: Embedder, examples: Examples, *, num_augmentations: int, seed: int) -> Equivariance:
    experiment = SimpleNamespace(dataset=SimpleNamespace(test=examples), plan=SimpleNamespace(equivariance=HUE))
    embedded = EmbeddedDataSet(experiment, lambda: embedder, {})
    return measure(embedded, SimpleNamespace(num_augmentations=num_augmentations, seed=seed))


@pytest.mark.slow
def test_a_rotating_encoder_and_a_hash():
    examples = _tinted(36)
    rotating = _measured(_embedder(MeanColor()), examples, num_augmentations=6, seed=0)
    hashed = _measured(_embedder(Noise()), examples, num_augmentations=6, seed=0)
    # A hue turn is a rotation of the colour plane up to the hexagon's corners.
    assert rotating.displacement.mean() > 0.5
    assert rotating.wahba.max() < 0.12 * rotating.displacement.max()
    assert rotating.relative_median < 0.01
    assert hashed.wahba.min() > 0.5
    assert hashed.relative_median > 10 * rotating.relative_median
    assert rotating.num_examples == rotating.num_pairwise == 36


@pytest.mark.slow
def test_matches_the_metrics_on_the_embeddings():
    examples, embedder = _tinted(20), _embedder(Noise())
    draw = jax.random.uniform(jax.random.key(3), (2, NUM_UNIFORMS))
    f, fa = embedder({}, examples).embeddings, embedder({}, examples, draw[1], HUE).embeddings
    measured = _measured(embedder, examples, num_augmentations=2, seed=3)
    np.testing.assert_allclose(measured.wahba[1], metrics.wahba(f, fa)[1] / np.sqrt(20), rtol=1e-5)
    np.testing.assert_allclose(measured.relative[1], metrics.relative_equivariance(f, fa), rtol=1e-5)
    np.testing.assert_allclose(measured.displacement[1], np.sqrt(np.mean(np.sum((f - fa) ** 2, axis=1))), rtol=1e-5)
    ratios = []
    for row in draw:
        moved = np.asarray(embedder({}, examples, row, HUE).embeddings, np.float64)
        for i in range(20):
            for j in range(20):
                if i != j:
                    top = np.sum((moved[j] - moved[i]) ** 2) - np.sum((f[j] - f[i]) ** 2)
                    bottom = np.sum((moved[j] - f[j]) ** 2) + np.sum((moved[i] - f[i]) ** 2)
                    ratios.append(top**2 / bottom**2)
    np.testing.assert_allclose(measured.relative_median, np.median(ratios), rtol=1e-3)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 7), (8, 5), (1, 100)])
def test_every_example_is_embedded_once_in_order(devices, batch_size):
    examples = _tinted(19)
    embedded = _embedder(MeanColor(), devices, batch_size)({}, examples)
    np.testing.assert_array_equal(embedded.rows, np.arange(19))
    colors = examples.images[:, 0, 0].astype(np.float64) / 255
    np.testing.assert_allclose(embedded.features.numpy(), colors - colors.mean(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(embedded.embeddings, MeanColor().apply({}, examples.images / 255.0)[1], atol=1e-6)


def test_neighbours_follow_the_hue():
    examples, embedder = _tinted(36), _embedder(MeanColor())
    bank = embedder({}, examples).embeddings
    found = hue_retrieval(embedder, {}, examples.images, bank, np.asarray([0, 6]), k=3, turns=1 / 3)
    assert set(found.before[0, :2]) == {1, 35} and set(found.before[1, :2]) == {5, 7}
    assert found.after[:, 0].tolist() == [12, 18]
    assert found.changed.shape == found.queries.shape == (2, 8, 8, 3)
