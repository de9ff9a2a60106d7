"""The networks of a step are the encoder's passes; heads are made by their names, in no order."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import models
from care_jax.models import Networks, encode_views, normalize

VIEWS = jax.random.normal(jax.random.key(0), (3, 8, 16, 16, 3))
HEADS = {name: models.ProjectionHead((8,), 4) for name in ("first", "second")}


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder()


@pytest.fixture(scope="module")
def variables(encoder):
    return jax.jit(encoder.init)(jax.random.key(1), VIEWS[0])


@pytest.mark.parametrize("remat", [False, True])
def test_features_and_projections_are_the_encoders(encoder, variables, remat):
    networks = Networks(encoder, {}, **variables, remat=remat)
    features = networks.features(VIEWS)
    embeddings = normalize(networks.project(features))
    (expected_features, expected), batch_stats = encode_views(encoder, variables, VIEWS)
    np.testing.assert_allclose(features, expected_features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(embeddings, expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(networks.batch_stats, dict(batch_stats), rtol=1e-5, atol=1e-6)
    # The caller's are as they were.
    chex.assert_trees_all_equal(variables, jax.jit(encoder.init)(jax.random.key(1), VIEWS[0]))


def test_out_of_training_nothing_moves(encoder, variables):
    networks = Networks(encoder, {}, **variables)
    frozen = networks.frozen(variables, train=False)
    embeddings = normalize(frozen.project(frozen.features(VIEWS)))
    for view, found in zip(VIEWS, embeddings, strict=True):
        np.testing.assert_allclose(found, encoder.apply(variables, view)[1], rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(frozen.batch_stats, dict(variables["batch_stats"]))
    trained = networks.frozen(variables, train=True)
    trained.features(VIEWS)
    assert not np.array_equal(
        jax.tree.leaves(trained.batch_stats["backbone"])[0], jax.tree.leaves(variables["batch_stats"]["backbone"])[0]
    )
    chex.assert_trees_all_equal(networks.batch_stats, dict(variables["batch_stats"]))


def test_a_head_is_made_where_it_is_first_applied(encoder, variables):
    """Its parameters depend on the key and its name alone, and its running averages are those of no batch."""
    features = jnp.ones((2, 8, 32))
    made = []
    for order in (("first", "second"), ("second", "first")):
        networks = Networks(encoder, HEADS, **variables, key=jax.random.key(2))
        for name in order:
            assert networks.apply(name, features).shape == (2, 8, 4)
        made.append((networks.params, networks.batch_stats))
    chex.assert_trees_all_equal(*made)
    params, batch_stats = made[0]
    assert np.abs(params["first"]["linear0"]["kernel"] - params["second"]["linear0"]["kernel"]).max() > 1e-2
    np.testing.assert_array_equal(batch_stats["first"]["bn0"]["mean"], 0.0)
    with pytest.raises(KeyError, match="first"):
        Networks(encoder, HEADS, **variables).apply("first", features)


def test_a_head_takes_several_inputs_view_by_view(encoder, variables):
    head = {"predictor": models.EquivariancePredictor(4)}
    first, second = jax.random.normal(jax.random.key(3), (2, 2, 8, 6))
    networks = Networks(encoder, head, **variables, key=jax.random.key(4))
    together = networks.apply("predictor", first, second)
    for view in range(2):
        alone = Networks(encoder, head, networks.params, networks.batch_stats)
        expected = alone.apply("predictor", first[view : view + 1], second[view : view + 1])
        np.testing.assert_allclose(together[view], expected[0], rtol=1e-5, atol=1e-5)
