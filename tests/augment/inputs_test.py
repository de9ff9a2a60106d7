"""Images or clouds: each goes its own way, and nothing is drawn where an evaluation asks for nothing."""

import jax
import numpy as np
import pytest

from care_jax import augment
from care_jax.augment import (
    AugmentSpec,
    CloudAugmentation,
    CloudSpec,
    apply_cloud,
    augmented,
    image_spec,
    input_shape,
    sample_cloud,
)

IMAGES = AugmentSpec(size=8, crop="center", flip_probability=0.5, mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)
CLOUDS = CloudSpec(rotation=True, jitter=0.1)
PIXELS = np.random.default_rng(0).random((4, 12, 10, 3), np.float32)
POINTS = np.concatenate([np.random.default_rng(1).normal(size=(4, 6, 3)), np.ones((4, 6, 1))], axis=-1)
POINTS = np.where(np.arange(6)[:, None] < 4, POINTS, 0).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4,), ()])
def test_images_go_through_the_operations_of_images(shape):
    uniforms = augment.draw_uniforms(jax.random.key(0), shape, IMAGES)
    drawn, views = augmented(uniforms, PIXELS, IMAGES)
    expected = augment.sample(uniforms, IMAGES, height=12, width=10)
    jax.tree.map(np.testing.assert_array_equal, drawn, expected)
    np.testing.assert_array_equal(views, augment.apply(expected, PIXELS, IMAGES))
    assert views.shape == (4, *input_shape(IMAGES)) == (4, 8, 8, 3)


@pytest.mark.parametrize("shape", [(4,), ()])
def test_clouds_go_through_those_of_clouds(shape):
    uniforms = augment.draw_uniforms(jax.random.key(0), shape, CLOUDS)
    assert uniforms.shape == (*shape, 8)
    drawn, views = augmented(uniforms, POINTS, CLOUDS)
    assert isinstance(drawn, CloudAugmentation) and drawn.scale.shape == shape
    jax.tree.map(np.testing.assert_array_equal, drawn, sample_cloud(uniforms, CLOUDS))
    np.testing.assert_array_equal(views, apply_cloud(drawn, POINTS, CLOUDS))
    assert np.abs(views[:, :4] - POINTS[:, :4]).max() > 0.1 and not np.asarray(views)[:, 4:].any()


def test_without_uniforms_nothing_is_drawn():
    plain = AugmentSpec(size=8, crop="center", mean=IMAGES.mean, std=IMAGES.std)
    _, views = augmented(None, PIXELS, plain)
    expected = augment.apply(augment.identity(plain, height=12, width=10), PIXELS, plain)
    np.testing.assert_array_equal(views, expected)
    for spec in (CloudSpec(), CLOUDS):
        drawn, views = augmented(None, POINTS, spec)
        np.testing.assert_array_equal(views, POINTS)
        np.testing.assert_array_equal(drawn.rotation, np.eye(3))


def test_what_only_images_go_through_says_so():
    assert image_spec(IMAGES) is IMAGES
    with pytest.raises(TypeError, match="ranges of clouds of points, and an AugmentSpec is needed"):
        image_spec(CLOUDS)
    assert input_shape(CLOUDS) == (2, 4)
