"""The networks of a step are the encoder's passes; heads are made by their names, in no order."""

from functools import partial

import chex
import jax
import numpy as np
import pytest

from care_jax import models
from care_jax.models import Networks, encode_views, normalize

VIEWS = np.random.default_rng(0).standard_normal((3, 8, 16, 16, 3), np.float32)
HEADS = {name: models.ProjectionHead((8,), 4) for name in ("first", "second")}


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder()


@pytest.fixture(scope="module")
def variables(encoder):
    return jax.jit(encoder.init)(jax.random.key(1), VIEWS[0])


@pytest.mark.parametrize("remat", [False, True])
def test_features_and_projections_are_the_encoders(encoder, variables, remat):
    @jax.jit
    def results(variables):
        given = dict(variables["batch_stats"])
        networks = Networks(encoder, {}, **variables, remat=remat)
        features = networks.features(VIEWS)
        embeddings = normalize(networks.project(features))
        assert all(variables["batch_stats"][name] is stats for name, stats in given.items())  # the caller's
        return (features, embeddings), networks.batch_stats

    expected = jax.jit(lambda variables: encode_views(encoder, variables, VIEWS))(variables)
    for found, wanted in zip(jax.tree.leaves(results(variables)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_out_of_training_nothing_moves(encoder, variables):
    @jax.jit
    def results(variables):
        networks = Networks(encoder, {}, **variables)
        frozen, trained = (networks.frozen(variables, train=train) for train in (False, True))
        embeddings = normalize(frozen.project(frozen.features(VIEWS)))
        trained.features(VIEWS)
        one_by_one = [encoder.apply(variables, view)[1] for view in VIEWS]
        return embeddings, one_by_one, [x.batch_stats for x in (networks, frozen, trained)]

    embeddings, one_by_one, (of_the_networks, of_the_frozen, of_the_trained) = results(variables)
    np.testing.assert_allclose(embeddings, one_by_one, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(of_the_frozen, dict(variables["batch_stats"]))
    chex.assert_trees_all_equal(of_the_networks, dict(variables["batch_stats"]))
    assert not np.array_equal(
        jax.tree.leaves(of_the_trained["backbone"])[0], jax.tree.leaves(variables["batch_stats"]["backbone"])[0]
    )


def test_a_head_is_made_where_it_is_first_applied(encoder, variables):
    """Its parameters depend on the key and its name alone, and its running averages are those of no batch."""
    features = np.ones((2, 8, 32), np.float32)

    @partial(jax.jit, static_argnums=0)
    def make(order):
        networks = Networks(encoder, HEADS, **variables, key=jax.random.key(2))
        for name in order:
            assert networks.apply(name, features).shape == (2, 8, 4)
        return networks.params, networks.batch_stats

    made = [make(order) for order in (("first", "second"), ("second", "first"))]
    chex.assert_trees_all_equal(*made)
    params, batch_stats = made[0]
    assert np.abs(params["first"]["linear0"]["kernel"] - params["second"]["linear0"]["kernel"]).max() > 1e-2
    np.testing.assert_array_equal(batch_stats["first"]["bn0"]["mean"], 0.0)
    with pytest.raises(KeyError, match="first"):
        Networks(encoder, HEADS, **variables).apply("first", features)


def test_a_head_takes_several_inputs_view_by_view(encoder, variables):
    head = {"predictor": models.EquivariancePredictor(4)}
    first, second = np.random.default_rng(3).standard_normal((2, 2, 8, 6), np.float32)

    @jax.jit
    def results():
        networks = Networks(encoder, head, **variables, key=jax.random.key(4))
        together, alone = networks.apply("predictor", first, second), []
        for view in range(2):
            one = Networks(encoder, head, networks.params, networks.batch_stats)
            alone.append(one.apply("predictor", first[view : view + 1], second[view : view + 1])[0])
        return together, alone

    together, alone = results()
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
