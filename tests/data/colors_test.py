"""Means and deviations of images against NumPy's, over all of them or over a part that is drawn once."""

import dataclasses

import numpy as np
import pytest

from care_jax.augment import AugmentSpec
from care_jax.data import DataError, Examples, colors

SPEC = AugmentSpec(size=8, crop="center", mean=(0.9,) * 3, std=(7.0,) * 3)  # whose colours are left out
IMAGES = np.random.default_rng(0).integers(0, 200, (31, 8, 8, 3), np.uint8) + np.arange(3, dtype=np.uint8) * 20


def _of(images: np.ndarray) -> colors.Colors:
    rows = (images / 255).reshape(-1, 3)
    return colors.Colors(tuple(rows.mean(0)), tuple(rows.std(0)))


def test_every_image_counts_once(monkeypatch):
    monkeypatch.setattr(colors, "_BATCH_SIZE", 7)  # of which the last is filled up
    np.testing.assert_allclose(colors.colors(Examples(IMAGES), SPEC), _of(IMAGES), atol=6e-5)


def test_as_an_evaluation_sees_them():
    """Of larger images the part in the middle."""
    spec = dataclasses.replace(SPEC, size=4, center_fraction=0.5)
    np.testing.assert_allclose(colors.colors(Examples(IMAGES), spec), _of(IMAGES[:, 2:6, 2:6]), atol=6e-5)


def test_of_many_a_part_that_is_the_same_each_time(monkeypatch):
    monkeypatch.setattr(colors, "SAMPLE", 20)
    found = colors.colors(Examples(IMAGES), SPEC)
    assert found == colors.colors(Examples(IMAGES), SPEC) != colors.colors(Examples(IMAGES[:20]), SPEC)
    np.testing.assert_allclose(found, _of(IMAGES), atol=0.02)


def test_a_channel_without_any_contrast_is_refused():
    with pytest.raises(DataError, match=r"one value throughout in channel 1 .*give --config\.data\.std"):
        colors.colors(Examples(IMAGES * np.array([1, 0, 1], np.uint8)), SPEC)
