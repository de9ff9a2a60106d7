"""What the term acts on is what is measured: the features, its own head, points on the hyperboloid."""

import jax
import numpy as np
import pytest

from care_jax.devices import sharding
from care_jax.evaluate import term_space
from care_jax.evaluate.evaluation import Evaluation
from care_jax.experiment import build
from care_jax.methods.care import GROUPS
from care_jax.models import normalize


@pytest.fixture
def measured(tiny_config, small_encoder):
    """Numbers of an encoder that compiles fast, and the data set embedded."""

    def measure(change=lambda variables: variables, **overrides):
        config = tiny_config(evaluate__num_augmentations=2, **overrides)
        experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(encoder=small_encoder())
        variables = change(jax.device_get(build.make_state(experiment)).variables)
        embedded = Evaluation(experiment).embedded(0, variables)
        return term_space.run(embedded, config.evaluate), embedded

    return measure


@pytest.mark.slow
def test_nothing_more_for_rotations_of_the_projection(measured):
    assert measured()[0] == {}
    assert measured(equivariance__weight=0.0, equivariance__on="head")[0] == {}
    assert measured(equivariance__term="augself")[0] == {}


@pytest.mark.slow
def test_on_the_features(measured):
    numbers, embedded = measured(equivariance__on="features")
    assert set(numbers) == {
        "features_wahba_mean",
        "features_displacement_mean",
        "features_relative_equivariance_median",
        "features_rotation_share_explained",
    }
    assert 0 < numbers["features_wahba_mean"] <= numbers["features_displacement_mean"]
    assert -1 < numbers["features_rotation_share_explained"] < 1
    features = embedded.part("test").features.numpy()
    outputs = embedded.outputs("backbone", normalize).part("test")
    np.testing.assert_allclose(outputs.features.numpy(), features, rtol=1e-5)
    np.testing.assert_allclose(outputs.embeddings, normalize(features), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_on_a_head_and_the_hyperboloid(measured):
    settings = {"equivariance__on": "head", "equivariance__group": "lorentz"}
    numbers, _ = measured(**settings)
    assert {"head_wahba_mean", "group_residual_mean", "group_displacement_mean"} < set(numbers)
    assert 0 < numbers["group_residual_mean"] < numbers["group_displacement_mean"]

    def another_projection(variables):
        variables["params"]["head"] = jax.tree.map(lambda x: 2 * x, variables["params"]["head"])
        return variables

    assert measured(another_projection, **settings)[0] == numbers


def test_points_of_every_group():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert np.allclose(np.linalg.norm(GROUPS["symplectic"].points(x), axis=-1), 1.0, rtol=1e-5)
    points = GROUPS["lorentz"].points(x)
    form = GROUPS["lorentz"].form(points.shape[1])
    np.testing.assert_allclose(np.einsum("id,de,ie->i", points, form, points), -1.0, rtol=1e-4)
    assert GROUPS["orthogonal"].form(4) is None
