"""An operation of one's own: off it is nothing, on it changes no other draw, and both placements do the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import augment
from care_jax.augment import NUM_UNIFORMS, OPERATIONS, AugmentSpec, Operation, ViewPlan, draw_uniforms
from care_jax.augment.namespace import namespace, to_float

SETTINGS = AugmentSpec.settings()
GIVEN = {"size": 6, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.25)}
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)


def _draw(uniforms, settings):
    xp = namespace(uniforms)
    return xp.stack([to_float(xp, uniforms[..., 0] < settings["invert_probability"]), uniforms[..., 1]], axis=-1)


def _invert(images, drawn, settings):
    xp = namespace(images)
    happens, top = drawn[..., 0, None, None, None], settings["invert_top"] * drawn[..., 1, None, None, None]
    return xp.where(happens > 0.5, top - images, images)


@pytest.fixture
def spec(monkeypatch):
    """Of a branch with two operations of one's own registered and one of them on, and a flip."""
    monkeypatch.setitem(
        OPERATIONS, "darken", Operation({"dark": 1.0}, 1, lambda u, _: u, lambda x, _, s: x * s["dark"])
    )
    off = {"invert_probability": 0.0, "invert_top": 1.0}
    monkeypatch.setitem(OPERATIONS, "invert", Operation(off, 2, _draw, _invert))
    return AugmentSpec.from_settings(SETTINGS | {"invert_probability": 0.5, "flip_probability": 0.5}, **GIVEN)


apply = jax.jit(augment.apply, static_argnames="spec")
sample = jax.jit(augment.sample, static_argnames=("spec", "height", "width"))


@jax.jit
def _plain_views(uniforms):
    spec = AugmentSpec(flip_probability=0.5, **GIVEN)
    return augment.apply(augment.sample(uniforms, spec, height=8, width=8), IMAGES, spec)


def test_settings_are_listed_with_the_built_in_ones(spec):
    listed = AugmentSpec.settings()
    assert listed == SETTINGS | {"dark": 1.0, "invert_probability": 0.0, "invert_top": 1.0}
    assert AugmentSpec.from_settings(listed, **GIVEN) == AugmentSpec(**GIVEN)
    assert [operation.name for operation in spec.operations] == ["invert"]
    assert hash(spec) != hash(dataclasses.replace(spec, operations=()))
    both = AugmentSpec.from_settings(listed | {"dark": 0.5, "invert_top": 0.5}, **GIVEN)
    assert [operation.name for operation in both.operations] == ["darken", "invert"]


def test_it_draws_at_the_end_of_a_row_and_changes_no_other_draw(spec):
    off = dataclasses.replace(spec, operations=())
    key = jax.random.key(3)
    with_it, without = draw_uniforms(key, (4, 5), spec), draw_uniforms(key, (4, 5), off)
    assert with_it.shape == (4, 5, NUM_UNIFORMS + 2)
    np.testing.assert_array_equal(with_it[..., :NUM_UNIFORMS], without)
    np.testing.assert_array_equal(without, jax.random.uniform(key, (4, 5, NUM_UNIFORMS)))
    assert len(np.unique(with_it[..., NUM_UNIFORMS:])) == 40
    # Of each branch by itself: its rows are as long as its own operations need.
    plan = ViewPlan(off, spec, seed=0, batch_size=4, equivariance_batch_size=4, num_groups=2)
    uniforms = jax.eval_shape(lambda: plan.uniforms(0))
    assert uniforms.invariance.shape == (2, 4, NUM_UNIFORMS)
    assert uniforms.equivariance.shape == (2, 4, NUM_UNIFORMS + 2)
    with pytest.raises(
        ValueError, match=rf"must be \[\.\.\., {NUM_UNIFORMS + 2}\]; got shape \(4, 5, {NUM_UNIFORMS}\)"
    ):
        augment.sample(without, spec, height=8, width=8)


def test_it_happens_after_the_others_and_before_the_normalisation(spec):
    uniforms = draw_uniforms(jax.random.key(0), (16,), spec)
    drawn = sample(uniforms, spec=spec, height=8, width=8)
    happens, top = np.asarray(drawn.further).T
    assert 0 < happens.sum() < 16
    mean, std = np.float32(GIVEN["mean"]), np.float32(GIVEN["std"])
    expected = np.asarray(_plain_views(uniforms[:, :NUM_UNIFORMS])) * std + mean
    expected = np.where(happens[:, None, None, None] > 0.5, top[:, None, None, None] - expected, expected)
    np.testing.assert_allclose(apply(drawn, IMAGES, spec=spec), (expected - mean) / std, atol=1e-5)
    shared = augment.share(jax.tree.map(lambda x: x[:2], drawn), 3)
    np.testing.assert_array_equal(shared.further, np.repeat(drawn.further[:2], 3, axis=0))


def test_each_draws_and_applies_its_own(spec, monkeypatch):
    monkeypatch.setitem(OPERATIONS, "again", OPERATIONS["invert"]._replace(off={"again": False}))
    both = AugmentSpec.from_settings(AugmentSpec.settings() | {"dark": 0.5, "again": True}, **GIVEN)
    assert [operation.name for operation in both.operations] == ["darken", "again"]
    monkeypatch.setitem(OPERATIONS, "again", OPERATIONS["again"]._replace(draw=lambda u, _: u, apply=_add_last))
    uniforms = draw_uniforms(jax.random.key(0), (16,), both)
    darkened, added = np.split(np.asarray(uniforms[:, NUM_UNIFORMS:]), [1], axis=1)
    drawn = sample(uniforms, spec=both, height=8, width=8)
    np.testing.assert_array_equal(drawn.further, np.concatenate([darkened, added], axis=1))
    mean, std = np.float32(GIVEN["mean"]), np.float32(GIVEN["std"])
    plain = apply(drawn, IMAGES, spec=dataclasses.replace(both, operations=())) * std + mean
    expected = 0.5 * plain + added[:, 1, None, None, None]
    np.testing.assert_allclose(apply(drawn, IMAGES, spec=both), (expected - mean) / std, atol=1e-5)
    # By its name: of two operations of one size none draws what the other does.
    two = dataclasses.replace(both, operations=(both.operations[1], spec.operations[0]))
    one, other = np.split(np.asarray(draw_uniforms(jax.random.key(0), (16,), two)[:, NUM_UNIFORMS:]), 2, axis=1)
    assert (one != other).all()
    np.testing.assert_array_equal(one, added)


def _add_last(images, drawn, settings):
    return images + drawn[..., 1, None, None, None]


def test_nothing_drawn_is_nothing_done(spec):
    off = dataclasses.replace(spec, operations=())
    identity = augment.identity(spec, height=8, width=8)
    np.testing.assert_array_equal(apply(identity, IMAGES, spec=spec), apply(identity, IMAGES, spec=off))
    uniforms = jnp.zeros((16, NUM_UNIFORMS))

    def views(uniforms):
        return augment.apply(augment.sample(uniforms, off, height=8, width=8), IMAGES, off)

    drawn = jax.eval_shape(lambda: augment.sample(uniforms, off, height=8, width=8))
    with pytest.raises(ValueError, match=r"further must be \[\.\.\., 2\]; got shape \(16, 3\)"):
        jax.eval_shape(lambda x: augment.apply(x._replace(further=jnp.zeros((16, 3))), IMAGES, spec), drawn)

    before = str(jax.make_jaxpr(views)(uniforms))
    OPERATIONS.clear()  # the fixture puts back what was there
    assert str(jax.make_jaxpr(views)(uniforms)) == before


def test_tensorflow_gives_the_same_pixels(spec):
    import tensorflow as tf

    uniforms = np.asarray(draw_uniforms(jax.random.key(0), (16,), spec))
    here = apply(sample(uniforms, spec=spec, height=8, width=8), IMAGES, spec=spec)
    there = augment.sample(tf.constant(uniforms), spec, height=8, width=8)
    np.testing.assert_allclose(augment.apply(there, tf.constant(IMAGES), spec).numpy(), here, atol=1e-5)


def test_a_pair_may_be_written_as_a_list(monkeypatch):
    """As it is in a configuration read from JSON: its off values leave it off."""
    fixed = Operation({"fog": [0.0, 0.5]}, 1, lambda uniforms, _: uniforms, lambda images, drawn, _: images)
    monkeypatch.setitem(OPERATIONS, "fog", fixed)
    assert AugmentSpec.settings()["fog"] == (0.0, 0.5)
    assert AugmentSpec.from_settings(AugmentSpec.settings(), **GIVEN) == AugmentSpec(**GIVEN)
    (chosen,) = AugmentSpec.from_settings(AugmentSpec.settings() | {"fog": [0.1, 0.5]}, **GIVEN).operations
    assert chosen.settings == (("fog", (0.1, 0.5)),)
