"""Colour operations against torchvision's numbers, against each other, and at the edges of the colour cube."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.augment import color

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((24, 5, 7, 3), np.float32)
ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)
ADJUSTMENTS = (color.adjust_brightness, color.adjust_contrast, color.adjust_saturation, color.adjust_hue)


def test_single_operations_are_torchvisions(golden, run):
    arrays = golden("augment")
    operations = dict(zip(("brightness", "contrast", "saturation", "hue"), ADJUSTMENTS, strict=True))
    keys = [key for key in arrays if key.partition("/")[0] in operations]
    assert len(keys) == 13
    for key in keys:
        name, value = key.split("/")
        result = run(operations[name], arrays["images"], float(value))
        np.testing.assert_allclose(result, arrays[key], rtol=0, atol=1e-5, err_msg=key)
    result = run(color.to_grayscale, arrays["images"])
    np.testing.assert_allclose(result, arrays["grayscale"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_jitter_is_torchvisions_in_every_given_order(golden, run):
    arrays = golden("augment")
    keys = [key for key in arrays if key.startswith("color_jitter/")]
    assert len(keys) == 3
    for key in keys:
        _, factors, order = key.split("/")
        names, values = zip(*(pair.split("=") for pair in factors.split(",")), strict=True)
        assert names == ("brightness", "contrast", "saturation", "hue")
        order = np.array([int(c) for c in order.removeprefix("order=")], np.int32)
        result = run(color.color_jitter, arrays["images"], order, *map(float, values))
        np.testing.assert_allclose(result, arrays[key], rtol=0, atol=1e-5, err_msg=key)


def test_jitter_is_its_four_adjustments_in_turn_for_all_24_orders_at_once(run, run_jax):
    factors = [RANDOM.uniform(low, high, 24).astype(np.float32) for low, high in [(0.4, 1.6)] * 3 + [(-0.5, 0.5)]]
    expected = []
    for i, order in enumerate(ORDERS):
        image = IMAGES[i]
        for operation in order:
            image = run_jax(ADJUSTMENTS[operation], image, factors[operation][i])
        expected.append(image)
    result = run(color.color_jitter, IMAGES, ORDERS, *factors)
    np.testing.assert_allclose(result, np.stack(expected), rtol=0, atol=2e-6)


def test_the_order_matters(run_jax):
    results = run_jax(color.color_jitter, IMAGES[:1].repeat(24, axis=0), ORDERS, 1.5, 0.5, 1.8, 0.2)
    distances = [np.abs(a - b).max() for a, b in itertools.combinations(results, 2)]
    assert np.median(distances) > 0.05


def test_neutral_factors_change_nothing(run):
    for adjust in ADJUSTMENTS[:3]:
        np.testing.assert_array_equal(run(adjust, IMAGES, 1.0), IMAGES)
    np.testing.assert_allclose(run(color.adjust_hue, IMAGES, 0.0), IMAGES, rtol=0, atol=1e-6)
    result = run(color.color_jitter, IMAGES, ORDERS, 1.0, 1.0, 1.0, 0.0)
    np.testing.assert_allclose(result, IMAGES, rtol=0, atol=1e-6)


def test_factor_zero_is_black_gray_and_grayscale(run_jax):
    gray = run_jax(color.to_grayscale, IMAGES)
    np.testing.assert_array_equal(run_jax(color.adjust_brightness, IMAGES, 0.0), 0 * IMAGES)
    mean = gray.mean(axis=(1, 2, 3), keepdims=True) + 0 * IMAGES
    np.testing.assert_allclose(run_jax(color.adjust_contrast, IMAGES, 0.0), mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run_jax(color.adjust_saturation, IMAGES, 0.0), gray, rtol=0, atol=1e-7)


def test_one_factor_an_image_is_each_image_alone(run_jax):
    factors = RANDOM.uniform(-0.5, 0.5, 24).astype(np.float32)
    for operation in (*ADJUSTMENTS, color.solarize):
        scale = 0.0 if operation is color.adjust_hue else 1.0
        together = run_jax(operation, IMAGES, factors + scale)
        for i in range(3):
            alone = run_jax(operation, IMAGES[i], factors[i] + scale)
            np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-6)


def test_hue_turns_the_colour_circle(run_jax):
    primaries = np.eye(3).reshape(3, 1, 1, 3) + np.zeros((3, 5, 7, 3))
    turned = run_jax(color.adjust_hue, primaries, 1 / 3)
    np.testing.assert_allclose(turned, np.roll(primaries, -1, axis=0), atol=1e-6)  # red -> green -> blue -> red
    np.testing.assert_allclose(run_jax(color.adjust_hue, primaries, 0.5), 1 - primaries, atol=1e-6)
    for turns in (1.0, -1.0, 3.0):
        np.testing.assert_allclose(run_jax(color.adjust_hue, IMAGES, turns), IMAGES, atol=3e-6)
    back = run_jax(color.adjust_hue, run_jax(color.adjust_hue, IMAGES, 0.37), -0.37)
    np.testing.assert_allclose(back, IMAGES, atol=2e-6)


def test_the_corners_and_edges_of_the_cube_stay_finite_and_inside(run):
    levels = np.array([0.0, 1e-7, 0.5, 1 - 1e-7, 1.0], np.float32)
    cube = np.array(list(itertools.product(levels, repeat=3)), np.float32).reshape(1, 5, 25, 3)
    for turns in (0.0, 1 / 6, 0.3, -0.5):
        result = run(color.adjust_hue, cube, turns)
        assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
        np.testing.assert_allclose(result.max(axis=-1), cube.max(axis=-1), atol=1e-6)
        np.testing.assert_allclose(result.min(axis=-1), cube.min(axis=-1), atol=1e-6)
        grays = (cube == cube[..., :1]).all(axis=-1)
        np.testing.assert_array_equal(result[grays], cube[grays])


def test_results_are_clipped(run_jax):
    for adjust, factor in zip(ADJUSTMENTS[:3], (2.0, 5.0, 5.0), strict=True):
        result = run_jax(adjust, IMAGES, factor)
        assert result.min() >= 0 and result.max() == 1


def test_solarize_inverts_from_the_threshold_on(run):
    image = np.repeat(np.array([0.0, 0.49, 0.5, 0.75, 1.0]).reshape(1, 5, 1), 3, axis=-1)
    expected = np.repeat(np.array([0.0, 0.49, 0.5, 0.25, 0.0]).reshape(1, 5, 1), 3, axis=-1)
    np.testing.assert_allclose(run(color.solarize, image, 0.5), expected, atol=1e-7)
    np.testing.assert_array_equal(run(color.solarize, image, 1.1), np.float32(image))


def test_either_layout_gives_the_same_pixels(run):
    lines = IMAGES.swapaxes(-1, -2)
    factor = np.linspace(0.5, 1.5, 24, dtype=np.float32)
    jitter = (ORDERS, factor, factor, factor, factor - 1)
    for operation, parameters in [(adjust, (factor,)) for adjust in ADJUSTMENTS] + [
        (color.color_jitter, jitter),
        (color.to_grayscale, ()),
    ]:
        one = run(operation, IMAGES, *parameters)
        other = run(operation, lines, *parameters, channel_axis=-2).swapaxes(-1, -2)
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


OPERATIONS = [(adjust, (0.5,)) for adjust in ADJUSTMENTS] + [
    (color.color_jitter, (ORDERS[0], 0.5, 0.5, 0.5, 0.1)),
    (color.to_grayscale, ()),
    (color.solarize, (0.5,)),
]


@pytest.mark.parametrize(("operation", "parameters"), OPERATIONS)
def test_what_is_no_colour_image_of_floats_is_refused(operation, parameters):
    """Bytes would be clipped to white; of other layouts JAX would take the last row or channel there is."""
    operation = partial(jax.eval_shape, operation)  # types and shapes are known before anything is computed
    for dtype in (np.uint8, np.int32, bool):
        with pytest.raises(ValueError, match=r"must be floats in \[0, 1\], as augment\.unit_range .*; got [uib]"):
            operation(np.ones((2, 8, 8, 3), dtype), *parameters)
    for shape in ((2, 3, 8, 8), (2, 8, 8, 1), (2, 8, 8, 4), (8, 3)):
        with pytest.raises(ValueError, match=r"images must be \[..., h, w, 3\]; got shape \("):
            operation(np.ones(shape, np.float32), *parameters)
    assert operation(np.ones((2, 8, 8, 3), jnp.bfloat16), *parameters).shape == (2, 8, 8, 3)


def test_the_other_layout_is_checked_too():
    with pytest.raises(ValueError, match=r"images must be \[..., h, 3, w\]; got shape \(24, 5, 7, 3\)"):
        color.to_grayscale(IMAGES, channel_axis=-2)
    with pytest.raises(ValueError, match=r"channel_axis must be -1, .* or -2, .*; got 3"):
        color.to_grayscale(IMAGES, channel_axis=3)
    with pytest.raises(ValueError, match=r"images must be an array \[..., h, w, 3\]; got a list"):
        color.to_grayscale([[[0.0, 0.0, 0.0]]])


def test_float64_comes_out_as_float32():
    with jax.enable_x64(True):
        jitter = jax.jit(color.color_jitter)
        images = jnp.asarray(IMAGES, jnp.float64)
        assert images.dtype == jnp.float64
        assert jitter(images, ORDERS, 0.5, np.float64(0.5), 1.5, 0.1).dtype == jnp.float32
