"""Operations on the pixel grid against torchvision's numbers, against loops, and by what they leave unchanged."""

import itertools
import math
from functools import partial

import jax
import numpy as np
import pytest

from care_jax.augment import geometry

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((4, 9, 7, 3), np.float32)


def smooth(size: int) -> np.ndarray:
    """A round bump off the centre, well inside the image."""
    y, x = np.mgrid[:size, :size] / (size - 1) - 0.5
    return np.exp(-((x - 0.1) ** 2 + (y + 0.05) ** 2) * 40)[..., None].repeat(3, -1).astype(np.float32)


def test_resized_crops_are_torchvisions(golden, run):
    arrays = golden("augment")
    keys = [key for key in arrays if "resized_crop" in key]
    assert len(keys) == 10
    for key in keys:
        image = arrays["large_image" if key.startswith("large") else "images"]
        size, *box, antialias = key.split("resized_crop/")[1].split("/")
        antialias = antialias == "antialias=True"
        result = run(geometry.resized_crop, image, *map(float, box), size=int(size), antialias=antialias)
        np.testing.assert_allclose(result, arrays[key], rtol=0, atol=1e-5, err_msg=key)


def test_blurs_and_flip_are_torchvisions(golden, run):
    arrays = golden("augment")
    keys = [key for key in arrays if key.startswith("gaussian_blur")]
    assert len(keys) == 5
    for key in keys:
        _, kernel_size, sigma = key.split("/")
        result = run(geometry.gaussian_blur, arrays["images"], float(sigma), kernel_size=int(kernel_size))
        np.testing.assert_allclose(result, arrays[key], rtol=0, atol=1e-5, err_msg=key)
    flipped = arrays["horizontal_flip"].astype(np.float32)
    np.testing.assert_array_equal(run(geometry.horizontal_flip, arrays["images"]), flipped)


def test_one_box_an_image_is_each_image_alone(run_jax):
    boxes = np.array([[0, 0, 9, 7], [3, 2, 4, 1], [1, 0, 1, 7], [8, 6, 1, 1]], np.float32)
    together = run_jax(geometry.resized_crop, IMAGES, *boxes.T, size=5)
    for i in range(4):
        alone = run_jax(geometry.resized_crop, IMAGES[i], *boxes[i], size=5)
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "antialias"), [(2, False), (2, True), (8, True)])
def test_a_crop_sees_its_box_only(size: int, antialias: bool, run_jax):
    poisoned = np.full_like(IMAGES, 1e6)
    poisoned[:, 2:6, 1:5] = IMAGES[:, 2:6, 1:5]
    result = run_jax(geometry.resized_crop, poisoned, 2, 1, 4, 4, size=size, antialias=antialias)
    whole = run_jax(geometry.resized_crop, IMAGES[:, 2:6, 1:5], 0, 0, 4, 4, size=size, antialias=antialias)
    np.testing.assert_allclose(result, whole, rtol=0, atol=1e-6)


def test_a_whole_image_of_the_right_size_is_unchanged_and_a_constant_stays_constant(run_jax):
    square = IMAGES[:, :7]
    np.testing.assert_array_equal(run_jax(geometry.resized_crop, square, 0, 0, 7, 7, size=7), square)
    constant = np.full((375, 500, 3), 0.3)
    result = run_jax(geometry.resized_crop, constant, 11, 17, 300, 411, size=32)
    np.testing.assert_allclose(result, 0.3, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "antialias"), [(3, False), (3, True), (8, True)])
def test_a_box_read_backwards_is_the_mirrored_crop(size: int, antialias: bool, run_jax):
    crop = run_jax(geometry.resized_crop, IMAGES, 1, 2, 7, 4, size=size, antialias=antialias)
    backwards = run_jax(geometry.resized_crop, IMAGES, 1, 2 + 4, 7, -4, size=size, antialias=antialias)
    np.testing.assert_allclose(backwards, crop[..., ::-1, :], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel_size", [1, 5, 13])
def test_blur_is_the_padded_loop(kernel_size: int, run):
    sigmas = np.float32([0.1, 0.7, 2.0, 5.0])
    radius = kernel_size // 2
    result = run(geometry.gaussian_blur, IMAGES, sigmas, kernel_size=kernel_size)
    for i, sigma in enumerate(sigmas):
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / float(sigma)) ** 2)
        kernel /= kernel.sum()
        padded = np.pad(IMAGES[i].astype(np.float64), [(radius, radius), (radius, radius), (0, 0)], mode="reflect")
        expected = sum(
            kernel[y] * kernel[x] * padded[y : y + 9, x : x + 7]
            for y, x in itertools.product(range(kernel_size), repeat=2)
        )
        np.testing.assert_allclose(result[i], expected, rtol=0, atol=1e-6)


def test_sigma_zero_does_not_blur(run):
    for sigma in (np.zeros(4, np.float32), 0.0):
        np.testing.assert_array_equal(run(geometry.gaussian_blur, IMAGES, sigma, kernel_size=5), IMAGES)


@pytest.mark.parametrize(
    ("operation", "static"),
    [
        (geometry.horizontal_flip, {}),
        (geometry.gaussian_blur, {"sigma": 1.0, "kernel_size": 3}),
        (geometry.rotate_and_translate, {"angle": 0.1}),
        (geometry.resized_crop, {"top": 0, "left": 0, "height": 4, "width": 4, "size": 4}),
    ],
)
def test_images_of_another_shape_are_refused(operation, static):
    operation = partial(operation, **static)
    for shape in ((2, 3, 8, 8), (2, 8, 8, 1), (2, 8, 8, 4), (8, 3)):
        with pytest.raises(ValueError, match=r"images must be \[..., h, w, 3\]; got shape \("):
            jax.eval_shape(operation, np.ones(shape, np.float32))
    assert jax.eval_shape(operation, np.ones((2, 8, 8, 3), np.uint8)).dtype == np.float32  # in 0 to 255, as they were


@pytest.mark.parametrize("kernel_size", [4, 15])
def test_a_kernel_that_is_even_or_too_large_is_refused(kernel_size: int):
    with pytest.raises(ValueError, match=f"9x7 image; got {kernel_size}"):
        geometry.gaussian_blur(IMAGES, 1.0, kernel_size=kernel_size)


def rotated_by_loop(image: np.ndarray, angle: float, shift_y: float, shift_x: float) -> np.ndarray:
    """Every output pixel looks up where it was before the shift and the counter-clockwise turn."""
    h, w, _ = image.shape
    out = np.zeros(image.shape)
    for row, column in itertools.product(range(h), range(w)):
        x, up = column - (w - 1) / 2 - shift_x * w, -(row - (h - 1) / 2 - shift_y * h)
        source = complex(x, up) * complex(math.cos(angle), -math.sin(angle))
        source_row, source_column = (h - 1) / 2 - source.imag, (w - 1) / 2 + source.real
        for i, j in itertools.product(range(h), range(w)):
            weight = max(0, 1 - abs(i - source_row)) * max(0, 1 - abs(j - source_column))
            out[row, column] += weight * image[i, j]
    return out


def test_rotation_and_shift_are_the_loop(run):
    angle, shift_y, shift_x = np.float32([[0.3, -1.2, 2.9, 0.0], [0.0, 0.21, -0.4, 1.0], [0.13, -0.3, 0.0, 0.0]])
    together = run(geometry.rotate_and_translate, IMAGES, angle, shift_y, shift_x)
    for i in range(4):
        expected = rotated_by_loop(IMAGES[i].astype(np.float64), angle[i], shift_y[i], shift_x[i])
        np.testing.assert_allclose(together[i], expected, rtol=0, atol=1e-5)
        alone = run(geometry.rotate_and_translate, IMAGES[i], angle[i], shift_y[i], shift_x[i])
        np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turns_are_rot90_counter_clockwise(size: int, run):
    image = RANDOM.random((size, size, 3), np.float32)
    for quarters in (-1, 1, 2, 3):
        result = run(geometry.rotate_and_translate, image, quarters * math.pi / 2)
        np.testing.assert_allclose(result, np.rot90(image, quarters), rtol=0, atol=1e-5)


def test_angle_zero_is_exactly_the_image(run):
    zeros = np.zeros(4, np.float32)
    for parameters in [(zeros, zeros, zeros), (0.0, 0.0, 0.0)]:
        np.testing.assert_array_equal(run(geometry.rotate_and_translate, IMAGES, *parameters), IMAGES)


def test_two_small_rotations_are_one(run_jax):
    image = smooth(65)
    twice = run_jax(geometry.rotate_and_translate, run_jax(geometry.rotate_and_translate, image, 0.2), 0.1)
    once = run_jax(geometry.rotate_and_translate, image, 0.3)
    assert np.abs(once - image).max() > 0.15
    np.testing.assert_allclose(twice, once, rtol=0, atol=0.01)


@pytest.mark.parametrize(("rows", "columns"), [(2, 0), (0, -3), (-1, 2), (9, 0), (4, 7)])
def test_whole_pixel_shifts_are_rolls_with_zeros(rows: int, columns: int, run_jax):
    expected = np.roll(IMAGES, (rows, columns), axis=(1, 2))
    y, x = np.mgrid[:9, :7]
    expected[:, (y - rows < 0) | (y - rows > 8) | (x - columns < 0) | (x - columns > 6)] = 0
    result = run_jax(geometry.rotate_and_translate, IMAGES, 0.0, rows / 9, columns / 7)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_the_shift_comes_after_the_rotation(run_jax):
    image = np.zeros((9, 9, 3))
    image[4, 6] = 1.0  # two to the right of the centre; a quarter turn brings it above, the shift one row down
    result = run_jax(geometry.rotate_and_translate, image, math.pi / 2, 1 / 9, 0.0)
    assert np.unravel_index(result[..., 0].argmax(), (9, 9)) == (3, 4)


def test_either_layout_gives_the_same_pixels(run):
    lines = IMAGES.swapaxes(-1, -2)
    for operation, parameters, static, other in [
        (geometry.horizontal_flip, (), {}, lines),
        (geometry.resized_crop, (1.0, 2.0, 6.0, 4.0), {"size": 5}, IMAGES),  # takes channels last, gives either
        (geometry.gaussian_blur, (1.1,), {"kernel_size": 5}, lines),
        (geometry.rotate_and_translate, (0.4, 0.1, 0.2), {}, lines),
    ]:
        one = run(operation, IMAGES, *parameters, **static)
        other = run(operation, other, *parameters, **static, channel_axis=-2).swapaxes(-1, -2)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
