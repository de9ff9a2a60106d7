"""What rival methods are told of an augmentation: by hand, standardised, and the same wherever it is computed."""

import doctest

import jax
import numpy as np
import pytest

from care_jax import augment
from care_jax.augment import (
    EQUIMOD_SIZE,
    NUM_UNIFORMS,
    Augmentation,
    AugmentSpec,
    augself_color,
    augself_crop,
    equimod_parameters,
    equimod_standardisation,
    parameters,
)

NORMALISATION = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
SPEC = AugmentSpec(
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
# Two views of one image of 40 x 50 pixels; the second isn't jittered, though an order was drawn.
BY_HAND = Augmentation(
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
DESCRIPTIONS = {
    "equimod": lambda drawn: equimod_parameters(drawn, height=40, width=50),
    "crop": lambda drawn: augself_crop(drawn, height=40, width=50),
    "color": lambda drawn: augself_color(drawn, SPEC),
}
NUM_DRAWS = 20_000


def draw(spec: AugmentSpec) -> Augmentation:
    """Draws for an image of 96 x 96 pixels."""
    uniforms = np.random.default_rng(1).random((NUM_DRAWS, NUM_UNIFORMS), np.float32)
    drawn = jax.jit(augment.sample, static_argnums=1)(uniforms, spec, height=96, width=96)
    return jax.tree.map(np.asarray, drawn)


@pytest.fixture(scope="module")
def draws() -> Augmentation:
    return draw(SPEC)


def test_equimods_vector_by_hand():
    expected = [
        [0.25, 0.1, 0.5, 0.5, 1, 1, 2, 0, 3, 1, 1.2, 0.9, 0.2, -0.05, 0],
        [0, 0.6, 1, 0.2, 0, 0, 0, 1, 2, 3, 1, 1, 1, 0, 1],
    ]
    actual = equimod_parameters(BY_HAND, height=40, width=50)
    assert actual.shape == (2, EQUIMOD_SIZE) and actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_augselfs_crop_by_hand():
    # Centres (20, 17.5), mirrored to 50 - 17.5 = 32.5, and (20, 35), which isn't.
    expected = [[0.5, 0.65, 0.5, 0.5], [0.5, 0.7, 1, 0.2]]
    np.testing.assert_allclose(augself_crop(BY_HAND, height=40, width=50), expected, rtol=1e-6)


def test_a_flipped_crop_is_the_mirrored_crop(draws: Augmentation):
    mirrored = draws._replace(left=96 - draws.left - draws.width, flip=1 - draws.flip)
    one, other = (augself_crop(view, height=96, width=96) for view in (draws, mirrored))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_augselfs_color_by_hand():
    actual = augself_color(BY_HAND, SPEC)
    np.testing.assert_allclose(actual[0], [0.5, -0.5, -1, -0.5], rtol=1e-5)
    np.testing.assert_array_equal(actual[1], np.zeros(4))


def test_what_has_no_range_is_zero():
    spec = AugmentSpec(size=32, jitter_probability=1.0, contrast=0.2, **NORMALISATION)
    actual = np.asarray(augself_color(draw(spec), spec))
    assert not actual[:, [0, 2, 3]].any()
    assert (actual[:, 1] != 0).mean() > 0.99


def test_one_size_an_image():
    sizes = {"height": np.array([40, 80]), "width": np.array([50, 200])}
    for describe in (equimod_parameters, augself_crop):
        together = describe(BY_HAND, **sizes)
        for i in range(2):
            row = jax.tree.map(lambda x: x[i], BY_HAND)  # noqa: B023
            alone = describe(row, height=int(sizes["height"][i]), width=int(sizes["width"][i]))
            np.testing.assert_allclose(together[i], alone, rtol=1e-6)


def test_augselfs_ranges(draws: Augmentation):
    crop, color = augself_crop(draws, height=96, width=96), augself_color(draws, SPEC)
    assert crop.min() >= 0 and crop.max() <= 1
    assert np.abs(color).max() <= 1 + 1e-6
    assert (np.asarray(color).max(0) > 0.95).all() and (np.asarray(color).min(0) < -0.95).all()
    np.testing.assert_array_equal(np.asarray(color == 0).all(-1), draws.jittered == 0)


def test_standardised_draws_have_mean_0_and_deviation_1(draws: Augmentation):
    mean, std = equimod_standardisation(SPEC)
    assert isinstance(mean, np.ndarray) and mean.shape == std.shape == (EQUIMOD_SIZE,)
    assert mean.dtype == std.dtype == np.float32
    standardised = (equimod_parameters(draws, height=96, width=96) - mean) / std
    # Six standard errors of both sets of draws, and the rounding of boxes to pixels.
    tolerance = 6 * (NUM_DRAWS**-0.5 + 4096**-0.5) + 0.01
    np.testing.assert_allclose(standardised.mean(0), np.zeros(15), atol=tolerance)
    np.testing.assert_allclose(standardised.std(0), np.ones(15), atol=tolerance)


def test_what_never_varies_has_deviation_1():
    spec = AugmentSpec(size=8, crop="center", center_fraction=0.7, jitter_probability=1.0, hue=0.1, **NORMALISATION)
    mean, std = equimod_standardisation(spec)
    varies = [*range(6, 10), 13]  # the order and the hue
    constant = np.setdiff1d(np.arange(15), varies)
    np.testing.assert_array_equal(std[constant], np.ones(len(constant)))
    assert (std[varies] != 1).all()
    np.testing.assert_allclose(mean[:6], [33 / 224, 33 / 224, 157 / 224, 157 / 224, 0, 1], atol=1e-7)


def test_the_standardisation_is_a_constant_of_a_traced_function():
    mean, std = equimod_standardisation(SPEC)
    assert equimod_standardisation(SPEC)[0] is mean
    equimod_standardisation.cache_clear()

    @jax.jit
    def standardised(drawn):
        mean, std = equimod_standardisation(SPEC)
        assert isinstance(mean, np.ndarray)
        return (equimod_parameters(drawn, height=40, width=50) - mean) / std

    drawn = jax.device_put(BY_HAND)
    with jax.transfer_guard("disallow"):
        traced = standardised(drawn)
    np.testing.assert_allclose(traced, (DESCRIPTIONS["equimod"](BY_HAND) - mean) / std, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        mean[0] = 0


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_compiled_is_eager(name: str):
    np.testing.assert_allclose(jax.jit(DESCRIPTIONS[name])(BY_HAND), DESCRIPTIONS[name](BY_HAND), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_any_leading_shape(name: str, draws: Augmentation):
    drawn = jax.tree.map(lambda x: x[:6], draws)
    stacked = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), drawn)
    flat = DESCRIPTIONS[name](drawn)
    np.testing.assert_allclose(DESCRIPTIONS[name](stacked), flat.reshape(2, 3, -1), rtol=1e-6)
    row = DESCRIPTIONS[name](jax.tree.map(lambda x: x[0], drawn))
    np.testing.assert_allclose(row, flat[0], rtol=1e-6)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_tensorflow_says_the_same(name: str):
    import tensorflow as tf

    there = DESCRIPTIONS[name](Augmentation(*map(tf.constant, BY_HAND)))
    assert there.dtype == tf.float32
    np.testing.assert_allclose(there.numpy(), DESCRIPTIONS[name](BY_HAND), rtol=1e-6, atol=1e-7)


def test_doctests():
    assert doctest.testmod(parameters).failed == 0
