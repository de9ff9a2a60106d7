"""A step's uniforms: the same whenever the step is drawn again, shared in a group, otherwise independent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from care_jax.augment import NUM_UNIFORMS, AugmentSpec, ViewPlan, ViewUniforms

SPEC = AugmentSpec(size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
PLAN = ViewPlan(SPEC, SPEC, seed=0, batch_size=16, equivariance_batch_size=8, num_groups=4)


drawn_by_jit = jax.jit(lambda plan, step: plan.uniforms(step), static_argnums=0)


def draw(step: int = 3, **changes) -> ViewUniforms:
    return jax.tree.map(np.asarray, drawn_by_jit(PLAN._replace(**changes), step))


def test_shapes_and_uniformity():
    uniforms = draw(batch_size=1000, equivariance_batch_size=2000, num_groups=1000)
    rows = {"invariance": (2, 1000), "equivariance": (2, 2000), "third": (1000,)}
    assert {name: x.shape for name, x in uniforms._asdict().items()} == {
        name: (*shape, NUM_UNIFORMS) for name, shape in rows.items()
    }
    for x in uniforms:
        assert x.dtype == np.float32
        assert 0 <= x.min() < 0.001 and 0.999 < x.max() < 1
        np.testing.assert_allclose(
            x.reshape(-1, NUM_UNIFORMS).mean(axis=0), 0.5, atol=6 / np.sqrt(12 * 1000)
        )  # a thousand different rows


def test_a_step_is_the_same_whenever_it_is_drawn_eagerly_or_traced():
    sizes = {"batch_size": 4, "equivariance_batch_size": 4, "num_groups": 2}
    once = draw(**sizes)
    for again in (draw(**sizes), draw(step=jnp.asarray(3, jnp.int32), **sizes), PLAN._replace(**sizes).uniforms(3)):
        jax.tree.map(np.testing.assert_array_equal, once, again)


def test_another_step_needs_no_other_compilation():
    draw(step=0)
    compiled = drawn_by_jit._cache_size()
    draw(step=1)
    assert drawn_by_jit._cache_size() == compiled


def test_another_step_or_seed_is_another_draw():
    for other in (draw(step=4), draw(seed=1), draw(seed=3, step=0)):
        for one, another in zip(draw(), other, strict=True):
            assert (one != another).mean() > 0.99


def test_the_five_draws_are_different():
    uniforms = draw()
    rows = [*uniforms.invariance[:, 0], *uniforms.equivariance[:, 0], uniforms.third[0]]
    for i in range(5):
        for j in range(i):
            assert (rows[i] != rows[j]).all()


def test_a_group_shares_its_rows_and_groups_differ():
    for rows in draw().equivariance:
        groups = rows.reshape(4, 2, NUM_UNIFORMS)
        np.testing.assert_array_equal(groups[:, 0], groups[:, 1])
        for i in range(4):
            for j in range(i):
                assert (groups[i, 0] != groups[j, 0]).all()


def test_images_of_the_invariance_views_do_not_share():
    for rows in (*draw().invariance, draw().third):
        assert len(np.unique(rows[:, 0])) == 16


def test_one_draw_a_batch_is_the_official_codes_behaviour():
    uniforms = draw(draws="batch")
    for rows in uniforms.equivariance:
        np.testing.assert_array_equal(rows, np.broadcast_to(rows[0], (8, NUM_UNIFORMS)))
    assert (uniforms.equivariance[0] != uniforms.equivariance[1]).all()
    # The invariance views are drawn as with a draw a group.
    np.testing.assert_array_equal(uniforms.invariance, draw().invariance)


def test_no_equivariance_term_needs_no_draws():
    uniforms = draw(equivariance_batch_size=0)
    assert uniforms.equivariance.shape == (2, 0, NUM_UNIFORMS)
    np.testing.assert_array_equal(uniforms.invariance, draw().invariance)


@pytest.mark.parametrize("draws", ["group", "batch"])
def test_eight_devices_draw_the_same(draws: str):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    pairs, rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((None, "data"), ("data",)))
    plan = PLAN._replace(draws=draws)
    sharded = jax.jit(plan.uniforms, out_shardings=ViewUniforms(pairs, pairs, rows))(3)
    assert len(sharded.invariance.sharding.device_set) == 8
    jax.tree.map(np.testing.assert_array_equal, draw(draws=draws), sharded)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draws": "image"}, "draws must be one of .*; got 'image'"),
        ({"num_groups": 3}, "num_groups .* 3 .* 8"),
        ({"num_groups": 0}, "num_groups .* 0 .* 8"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        draw(**changes)
