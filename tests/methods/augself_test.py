"""AugSelf's descriptions of the crop and of the colours: by hand, and the same wherever they are computed."""

import doctest
import sys

import numpy as np

from care_jax.augment import AugmentSpec
from care_jax.methods import augself_color, augself_crop


def test_augselfs_crop_by_hand(by_hand):
    # Centres (20, 17.5), mirrored to 50 - 17.5 = 32.5, and (20, 35), which isn't.
    expected = [[0.5, 0.65, 0.5, 0.5], [0.5, 0.7, 1, 0.2]]
    np.testing.assert_allclose(augself_crop(by_hand, height=40, width=50), expected, rtol=1e-6)


def test_a_flipped_crop_is_the_mirrored_crop(draws):
    mirrored = draws._replace(left=96 - draws.left - draws.width, flip=1 - draws.flip)
    one, other = (augself_crop(view, height=96, width=96) for view in (draws, mirrored))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_augselfs_color_by_hand(by_hand, spec):
    actual = augself_color(by_hand, spec)
    np.testing.assert_allclose(actual[0], [0.5, -0.5, -1, -0.5], rtol=1e-5)
    np.testing.assert_array_equal(actual[1], np.zeros(4))


def test_what_has_no_range_is_zero(draw):
    spec = AugmentSpec(size=32, jitter_probability=1.0, contrast=0.2, mean=(0.5,) * 3, std=(0.2,) * 3)
    actual = np.asarray(augself_color(draw(spec), spec))
    assert not actual[:, [0, 2, 3]].any()
    assert (actual[:, 1] != 0).mean() > 0.99


def test_they_are_the_same_everywhere(check_description, check_one_size_an_image, spec):
    check_description(lambda drawn: augself_crop(drawn, height=40, width=50))
    check_description(lambda drawn: augself_color(drawn, spec))
    check_one_size_an_image(augself_crop)


def test_augselfs_ranges(draws, spec):
    crop, color = augself_crop(draws, height=96, width=96), augself_color(draws, spec)
    assert crop.min() >= 0 and crop.max() <= 1
    assert np.abs(color).max() <= 1 + 1e-6
    assert (np.asarray(color).max(0) > 0.95).all() and (np.asarray(color).min(0) < -0.95).all()
    np.testing.assert_array_equal(np.asarray(color == 0).all(-1), draws.jittered == 0)


def test_doctests():
    results = doctest.testmod(sys.modules[augself_crop.__module__])
    assert results.attempted and not results.failed
