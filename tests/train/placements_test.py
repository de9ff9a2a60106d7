"""The views that some objectives need beside the invariance and the equivariance views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import augment
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.train.placements import example, from_images


def _plan(config):
    return build.build(config, sharding.make_mesh(jax.devices()[:1])).plan


@pytest.mark.slow
def test_plain_drawn_and_rotated_views(tiny_config):
    """The central square; the rows that were applied; four turns of a smaller draw of its own."""
    plan = _plan(tiny_config(equivariance__term="essl"))._replace(needs=("plain", "drawn", "rotated"))
    images = jax.random.uniform(jax.random.key(0), (4, 20, 20, 3))
    uniforms = plan._replace(batch_size=4).uniforms(jnp.int32(3))
    central = augment.AugmentSpec(size=16, crop="center", mean=(0, 0, 0), std=(1, 1, 1))

    @jax.jit
    def expected(images, uniforms):
        plain = augment.apply(augment.identity(central, height=20, width=20), images, central)
        third = augment.sample(uniforms.third, plan.rotated(), height=20, width=20)
        drawn = [augment.sample(rows, plan.invariance, height=20, width=20) for rows in uniforms.invariance]
        return plain, augment.apply(third, images, plan.rotated()), drawn

    views = jax.jit(lambda images, uniforms: from_images(plan, images, uniforms))(images, uniforms)
    plain, third, drawn = expected(images, uniforms)
    assert views.equivariance is None and tuple(map(int, views.image_size)) == (20, 20)
    mean, std = np.asarray(plan.invariance.mean), np.asarray(plan.invariance.std)
    np.testing.assert_allclose(np.asarray(views.plain[0]) * std + mean, plain, atol=1e-5)
    for view in range(2):
        for name, value in drawn[view]._asdict().items():
            np.testing.assert_allclose(getattr(views.drawn, name)[view], value, rtol=1e-5, atol=1e-6, err_msg=name)
    turned = np.asarray(views.rotated).reshape(4, 4, 8, 8, 3)
    for k in range(4):
        np.testing.assert_array_equal(turned[:, k], np.rot90(turned[:, 0], k, axes=(1, 2)))
    # Smaller, but by the same ranges; drawn apart from both other views.
    np.testing.assert_allclose(turned[:, 0], third, atol=1e-5)
    assert not any(np.allclose(uniforms.third, rows) for rows in uniforms.invariance)


def test_examples_have_the_shapes_of_what_is_needed(tiny_config):
    for needs, term in ((("equivariance",), "care"), (("plain", "drawn"), "equimod"), (("rotated",), "essl")):
        plan = _plan(tiny_config(equivariance__term=term))
        assert set(plan.needs) == set(needs)
        views = jax.eval_shape(lambda: example(plan))  # noqa: B023
        assert views.invariance.shape == (2, 2, 16, 16, 3)
        found = {name for name in ("equivariance", "plain", "rotated", "drawn") if getattr(views, name) is not None}
        assert found == set(needs)
