"""What the term acts on is what is measured: the features, its own head, points on the hyperboloid."""

import jax
import numpy as np
import pytest

from care_jax.devices import sharding
from care_jax.evaluate.evaluation import make_embedder
from care_jax.evaluate.term_space import Moved, measure_moved
from care_jax.experiment import build
from care_jax.methods.care import GROUPS


@pytest.fixture
def trained(tiny_config, small_encoder):
    """An experiment with an encoder that compiles fast, and variables that no head shares."""

    def make(**overrides):
        config = tiny_config(evaluate__num_augmentations=2, **overrides)
        experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(encoder=small_encoder())
        return experiment, jax.device_get(build.make_state(experiment)).variables

    return make


def test_nothing_more_for_rotations_of_the_projection(trained):
    assert measure_moved(*trained()) == {}
    assert measure_moved(*trained(equivariance__weight=0.0, equivariance__on="head")) == {}
    assert measure_moved(*trained(equivariance__term="augself")) == {}


@pytest.mark.slow
def test_on_the_features(trained):
    experiment, variables = trained(equivariance__on="features")
    numbers = measure_moved(experiment, variables)
    assert set(numbers) == {
        "features_wahba_mean",
        "features_displacement_mean",
        "features_relative_equivariance_median",
    }
    assert 0 < numbers["features_wahba_mean"] <= numbers["features_displacement_mean"]
    features = make_embedder(experiment)(variables, experiment.dataset.test).features
    moved = Moved(experiment.encoder.backbone, None, "orthogonal")
    found = moved.apply(
        {name: {"backbone": value["backbone"]} for name, value in variables.items()}, np.ones((2, 16, 16, 3))
    )
    assert found[1].shape == (2, features.shape[1])
    np.testing.assert_allclose(np.linalg.norm(found[1], axis=-1), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_on_a_head_and_the_hyperboloid(trained):
    experiment, variables = trained(equivariance__on="head", equivariance__group="lorentz")
    numbers = measure_moved(experiment, variables)
    assert {"head_wahba_mean", "group_residual_mean", "group_displacement_mean"} < set(numbers)
    assert 0 < numbers["group_residual_mean"] < numbers["group_displacement_mean"]
    # Another projection changes nothing.
    others = jax.tree.map(lambda x: x, variables)
    others["params"]["head"] = jax.tree.map(lambda x: 2 * x, others["params"]["head"])
    assert measure_moved(experiment, others) == numbers


def test_points_of_every_group():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert np.allclose(np.linalg.norm(GROUPS["symplectic"].points(x), axis=-1), 1.0, rtol=1e-5)
    points = GROUPS["lorentz"].points(x)
    form = GROUPS["lorentz"].form(points.shape[1])
    np.testing.assert_allclose(np.einsum("id,de,ie->i", points, form, points), -1.0, rtol=1e-4)
    assert GROUPS["orthogonal"].form(4) is None
