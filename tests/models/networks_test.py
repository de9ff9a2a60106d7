"""The networks of a step are the encoder's passes; heads are made by their names, in no order."""

import chex
import jax
import numpy as np
import pytest

from care_jax import models
from care_jax.models import Networks, encode_views, init_heads, normalize

VIEWS = np.random.default_rng(0).standard_normal((3, 8, 16, 16, 3), np.float32)
HEADS = {name: models.ProjectionHead((8,), 4) for name in ("first", "second")}


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder()


@pytest.fixture(scope="module")
def variables(encoder):
    return jax.jit(encoder.init)(jax.random.key(1), VIEWS[0])


def _embed(networks):
    features = networks.features(VIEWS)
    return features, normalize(networks.project(features))


@pytest.mark.parametrize("remat", [False, True])
def test_features_and_projections_are_the_encoders(encoder, variables, remat):
    @jax.jit
    def results(variables):
        networks = Networks.of(encoder, {}, remat=remat)
        return networks.apply(variables, method=_embed, mutable=["batch_stats"])

    @jax.jit
    def expected(variables):
        return encoder.apply(variables, VIEWS, method=encode_views, mutable=["batch_stats"])

    found, wanted = results(variables), expected(variables)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_a_pass_moves_the_running_averages_as_often_as_it_is_made(encoder, variables):
    """Of the network that it is a pass through, in the order of the passes, and only in what `apply` returns."""
    before = jax.device_get(variables["batch_stats"])

    @jax.jit
    def results(variables):
        networks = Networks.of(encoder, {})
        features, _ = networks.apply(variables, VIEWS, method=Networks.features, mutable=["batch_stats"])
        _, twice = networks.apply(
            variables, method=lambda bound: [bound.project(features) for _ in range(2)], mutable=["batch_stats"]
        )
        once = encoder.head.apply(_of(variables, "head"), features, method=encode_views, mutable=["batch_stats"])[1]
        again = {"params": variables["params"]["head"], **once}
        return twice["batch_stats"], encoder.head.apply(again, features, method=encode_views, mutable=["batch_stats"])

    twice, (_, expected) = results(variables)
    chex.assert_trees_all_close(twice["head"], expected["batch_stats"], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(twice["backbone"], variables["batch_stats"]["backbone"])
    chex.assert_trees_all_equal(jax.device_get(variables["batch_stats"]), before)


def _of(variables, name):
    return {collection: networks[name] for collection, networks in variables.items()}


@pytest.mark.parametrize("train", [False, True])
def test_what_is_frozen_moves_nothing(encoder, variables, train):
    others = jax.tree.map(lambda x: x + np.float32(0.1), variables)

    @jax.jit
    def results(variables, others):
        networks = Networks.of(encoder, HEADS, remat=True)
        found, updates = networks.apply(
            variables, method=lambda bound: _embed(bound.frozen(others, train=train)), mutable=["batch_stats"]
        )
        if train:
            expected, _ = encoder.apply(others, VIEWS, method=encode_views, mutable=["batch_stats"])
        else:
            expected = [jax.numpy.stack(x) for x in zip(*(encoder.apply(others, view) for view in VIEWS), strict=True)]
        return found, tuple(expected), updates["batch_stats"]

    found, expected, batch_stats = results(variables, others)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(batch_stats, dict(variables["batch_stats"]))


def test_a_head_is_made_by_its_name(encoder, variables):
    """Its parameters are those of the head itself for a key of its name, and its averages are those of no batch."""
    features = np.ones((2, 8, 32), np.float32)

    def make(heads, order):
        def use(networks):
            for name in order:
                assert networks.through(name, features).shape == (2, 8, 4)

        return jax.jit(lambda: init_heads(Networks.of(encoder, heads), variables, jax.random.key(2), use))()

    made = [make(HEADS, order) for order in (("first", "second"), ("second", "first", "second"))]
    chex.assert_trees_all_equal(*made)
    alone = make({"first": HEADS["first"]}, ("first",))
    chex.assert_trees_all_equal(alone["params"]["first"], made[0]["params"]["first"])
    assert {collection: set(x) for collection, x in made[0].items()} == {
        collection: {"backbone", "head", "first", "second"} for collection in ("params", "batch_stats")
    }
    chex.assert_trees_all_equal(_of(made[0], "head"), dict(_of(variables, "head")))
    params, batch_stats = made[0]["params"], made[0]["batch_stats"]
    assert np.abs(params["first"]["linear0"]["kernel"] - params["second"]["linear0"]["kernel"]).max() > 1e-2
    np.testing.assert_array_equal(batch_stats["first"]["bn0"]["mean"], 0.0)
    key = jax.random.fold_in(jax.random.key(2), 0x9271EE57)  # the CRC-32 of "first"
    own = jax.jit(HEADS["first"].init)(key, features[0])
    chex.assert_trees_all_equal(params["first"], own["params"])


def test_a_head_that_was_not_made_is_named(encoder, variables):
    with pytest.raises(Exception, match="first"):
        Networks.of(encoder, HEADS).apply(
            variables, "first", np.ones((2, 8, 32), np.float32), method=Networks.through, mutable=["batch_stats"]
        )


def test_a_head_takes_several_inputs_view_by_view(encoder, variables):
    networks = Networks.of(encoder, {"predictor": models.EquivariancePredictor(4)})
    first, second = np.random.default_rng(3).standard_normal((2, 2, 8, 6), np.float32)

    @jax.jit
    def results():
        made = init_heads(
            networks, variables, jax.random.key(4), lambda bound: bound.through("predictor", first, second)
        )

        def through(*inputs):
            return networks.apply(made, "predictor", *inputs, method=Networks.through, mutable=["batch_stats"])[0]

        alone = [through(first[view : view + 1], second[view : view + 1])[0] for view in range(2)]
        return through(first, second), jax.numpy.stack(alone)

    together, alone = results()
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
