"""Strength 0 is nothing, and each strength does to the pixels what its name says."""

import colorsys

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.evaluate import strengths
from care_jax.evaluate.strengths import SWEEPS

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def seen(name, value, pixels=PIXELS, size=8, **options):
    values = np.broadcast_to(np.float32(value), len(pixels))
    largest = float(np.abs(values).max())
    return np.asarray(
        strengths.views(pixels, values, name=name, spec=strengths.spec_of(name, largest, size=size, **options))
    )


@pytest.mark.parametrize("name", ["", *SWEEPS])
def test_strength_0_is_nothing(name):
    np.testing.assert_allclose(seen(name, 0.0), PIXELS / 255, atol=1e-6)


def test_each_strength_does_what_its_name_says():
    unit = PIXELS / 255
    gray = unit @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(seen("brightness", 0.4), 0.6 * unit, atol=1e-6)
    np.testing.assert_allclose(seen("saturation", 0.4), 0.6 * unit + 0.4 * gray[..., None], atol=1e-6)
    mean = gray.mean((1, 2))[:, None, None, None]
    np.testing.assert_allclose(seen("contrast", 0.4), 0.6 * unit + 0.4 * mean, atol=1e-6)
    np.testing.assert_allclose(seen("rotation", 90.0), np.rot90(unit, axes=(1, 2)), atol=1e-5)
    # The central half of 8 pixels, at 4: as it is.
    np.testing.assert_allclose(seen("crop", 0.5, size=4), unit[:, 2:6, 2:6], atol=1e-6)
    turned = seen("hue", 0.25)
    for at in np.ndindex(2, 8, 8):
        hue, saturation, value = colorsys.rgb_to_hsv(*unit[at])
        np.testing.assert_allclose(turned[at], colorsys.hsv_to_rgb((hue + 0.25) % 1, saturation, value), atol=1e-5)


def test_blur_spreads_a_point_as_a_gaussian_does():
    point = np.zeros((1, 33, 33, 3), np.uint8)
    point[0, 16, 16] = 255
    sigma = 0.05 * 33
    offsets = np.arange(33) - 16
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) * (np.abs(offsets) <= 5)
    expected = np.outer(weights, weights) / weights.sum() ** 2
    np.testing.assert_allclose(seen("blur", 0.05, point, 33)[0, ..., 0], expected, atol=1e-6)


def test_each_image_has_its_own_strength():
    both = seen("brightness", [0.0, 0.5])
    np.testing.assert_allclose(both, PIXELS / 255 * np.array([1.0, 0.5])[:, None, None, None], atol=1e-6)


def test_the_central_square_is_seen_at_the_size_of_the_encoder():
    assert seen("hue", 0.1, np.zeros((1, 12, 20, 3), np.uint8), 6, center_fraction=0.5).shape == (1, 6, 6, 3)
    inner = np.zeros((1, 8, 8, 3), np.uint8)
    inner[:, 2:6, 2:6] = 255
    assert (seen("", 0.0, inner, 4, center_fraction=0.5) == 1.0).all()


@pytest.mark.parametrize("name", SWEEPS)
def test_strengths_are_in_their_range_and_take_part_in_random_ones(name):
    sweep = SWEEPS[name]
    assert len(sweep.strengths) >= 4 and all(sweep.low <= value <= sweep.high for value in sweep.strengths)
    drawn = strengths.random_strengths(sweep.strengths, 2000, np.random.default_rng(0))
    assert 0 <= drawn.min() < 0.01 * drawn.max() and 0.99 * max(sweep.strengths) < drawn.max() <= max(sweep.strengths)
    assert strengths.random_strengths([-0.2, 0.1], 500, np.random.default_rng(0)).min() < -0.1


def test_names_and_strengths_are_chosen():
    assert list(strengths.chosen([])) == list(SWEEPS)
    assert strengths.chosen(["hue", "blur", "hue"]) == {name: SWEEPS[name].strengths for name in ("hue", "blur")}
    assert strengths.chosen(["rotation"], ["-45", "90", "90"]) == {"rotation": (-45.0, 90.0)}


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["hues"], [], "'hues' is not one; did you mean hue\\? There are hue, brightness,"),
        (["fog"], [], "'fog' is not one; there are hue, brightness, .*, blur"),
        ([], ["0.1"], "are of one augmentation: name it"),
        (["hue", "blur"], ["0.1"], "are of one augmentation: name it"),
        (["hue"], ["much"], "'much' is no number; of hue give turns of the hue"),
        (["crop"], ["1"], "crop takes 0 to 0.95, but 0"),
        (["hue"], ["0"], "hue takes -1 to 1, but 0"),
        (["hue"], ["nan"], "hue takes -1 to 1"),
    ],
)
def test_what_is_no_choice_is_one_line(names, given, message):
    with pytest.raises(UsageError, match=message):
        strengths.chosen(names, given)
