"""Draws that the rivals' parameter vectors are made of, and what holds for each such vector."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

from care_jax import augment
from care_jax.augment import NUM_UNIFORMS, Augmentation, AugmentSpec

NORMALISATION = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
NUM_DRAWS = 20_000


@pytest.fixture(scope="session")
def spec() -> AugmentSpec:
    return AugmentSpec(
        size=32,
        flip_probability=0.5,
        jitter_probability=0.8,
        brightness=0.4,
        contrast=0.2,
        saturation=0.8,
        hue=0.1,
        grayscale_probability=0.2,
        **NORMALISATION,
    )


@pytest.fixture(scope="session")
def by_hand() -> Augmentation:
    """Two views of one image of 40 x 50 pixels; the second isn't jittered, though an order was drawn."""
    return Augmentation(
        top=np.float32([10, 0]),
        left=np.float32([5, 30]),
        height=np.float32([20, 40]),
        width=np.float32([25, 10]),
        flip=np.float32([1, 0]),
        jittered=np.float32([1, 0]),
        order=np.int32([[2, 0, 3, 1], [3, 2, 1, 0]]),
        brightness=np.float32([1.2, 1]),
        contrast=np.float32([0.9, 1]),
        saturation=np.float32([0.2, 1]),
        hue=np.float32([-0.05, 0]),
        grayscale=np.float32([0, 1]),
        blur_sigma=np.float32([0.5, 0]),
        solarize=np.float32([1, 0]),
        angle=np.float32([0.3, 0]),
        shift_y=np.float32([0.1, 0]),
        shift_x=np.float32([-0.1, 0]),
        further=np.zeros((2, 0), np.float32),
    )


@pytest.fixture(scope="session")
def draw() -> Callable[[AugmentSpec], Augmentation]:
    """`draw(spec)`: 20,000 draws for an image of 96 x 96 pixels."""

    def draw(spec: AugmentSpec) -> Augmentation:
        uniforms = np.random.default_rng(1).random((NUM_DRAWS, NUM_UNIFORMS), np.float32)
        drawn = jax.jit(augment.sample, static_argnums=1)(uniforms, spec, height=96, width=96)
        return jax.tree.map(np.asarray, drawn)

    return draw


@pytest.fixture(scope="session")
def draws(draw, spec) -> Augmentation:
    return draw(spec)


@pytest.fixture
def check_description(by_hand, draws) -> Callable[[Callable[..., np.ndarray]], None]:
    """`check_description(describe)`: compiled is eager, TensorFlow says the same, any leading shape is taken."""

    def check(describe: Callable[..., np.ndarray]) -> None:
        import tensorflow as tf

        expected = describe(by_hand)
        np.testing.assert_allclose(jax.jit(describe)(by_hand), expected, rtol=1e-6, atol=1e-7)
        there = describe(Augmentation(*map(tf.constant, by_hand)))
        assert there.dtype == tf.float32
        np.testing.assert_allclose(there.numpy(), expected, rtol=1e-6, atol=1e-7)
        drawn = jax.tree.map(lambda x: x[:6], draws)
        stacked = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), drawn)
        flat = describe(drawn)
        np.testing.assert_allclose(describe(stacked), flat.reshape(2, 3, -1), rtol=1e-6)
        row = describe(jax.tree.map(lambda x: x[0], drawn))
        np.testing.assert_allclose(row, flat[0], rtol=1e-6)

    return check


@pytest.fixture
def check_one_size_an_image(by_hand) -> Callable[[Callable[..., np.ndarray]], None]:
    """`check_one_size_an_image(describe)`: images of several sizes in one call are each described as alone."""

    def check(describe: Callable[..., np.ndarray]) -> None:
        sizes = {"height": np.array([40, 80]), "width": np.array([50, 200])}
        together = describe(by_hand, **sizes)
        for i in range(2):
            row = jax.tree.map(lambda x: x[i], by_hand)  # noqa: B023
            alone = describe(row, height=int(sizes["height"][i]), width=int(sizes["width"][i]))
            np.testing.assert_allclose(together[i], alone, rtol=1e-6)

    return check
