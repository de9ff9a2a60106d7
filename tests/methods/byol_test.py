"""BYOL: the momentum encoder against a loop in float64, targets without gradient, predictions across views."""

import math
from functools import partial

import jax
import numpy as np
import pytest

from care_jax import models
from care_jax.methods import BYOL, Update, Views
from care_jax.methods.byol import momentum_at

METHOD = BYOL(predictor=models.ProjectionHead((8,), 8), num_steps=20, momentum=0.9)


@pytest.fixture(scope="module")
def setup(small_encoder):
    encoder = small_encoder()
    views = Views(invariance=np.random.default_rng(0).standard_normal((2, 8, 16, 16, 3), np.float32))
    variables = jax.jit(encoder.init)(jax.random.key(1), views.invariance[0])
    return encoder, views, variables, jax.jit(METHOD.init, static_argnums=2)(jax.random.key(2), variables, 8)


def test_momentum_rises_along_half_a_cosine():
    at = jax.jit(partial(momentum_at, num_steps=20, momentum=0.9))
    for step in range(21):
        expected = 1 - (1 - 0.9) * (math.cos(math.pi * step / 20) + 1) / 2
        assert float(at(step)) == pytest.approx(expected, abs=1e-6)
    assert float(at(0)) == pytest.approx(0.9)
    assert float(at(20)) == 1.0


def test_target_is_the_moving_average_of_a_loop():
    rng = np.random.default_rng(0)
    variables = {"params": {"backbone": np.zeros(3, np.float32), "head": np.ones(2, np.float32)}}
    after_update = jax.jit(METHOD.after_update)
    state, expected = METHOD.init(jax.random.key(0), variables, 8), {"backbone": np.zeros(3), "head": np.ones(2)}
    for step in range(20):
        params = {name: rng.normal(size=x.shape).astype(np.float32) for name, x in expected.items()}
        state = after_update(state, Update(np.int32(step), {"params": {**params, "predictor": 0.0}}, {}))
        kept = 1 - (1 - 0.9) * (math.cos(math.pi * step / 20) + 1) / 2
        expected = {name: kept * x + (1 - kept) * params[name].astype(np.float64) for name, x in expected.items()}
    assert state["target"]["params"].keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(state["target"]["params"][name], x, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_targets_see_no_gradient_and_come_from_the_momentum_encoder(setup):
    encoder, views, variables, state = setup

    @jax.jit
    def embed(target, own):
        def outputs_of(networks):
            outputs = {"projections": networks.project(networks.features(own))}
            return outputs | METHOD.embed(networks, Views(invariance=own), outputs, {"target": target})

        networks = models.Networks.of(encoder, METHOD.heads)
        all_variables = models.init_heads(networks, variables, jax.random.key(3), outputs_of)
        outputs, _ = networks.apply(all_variables, method=outputs_of, mutable=["batch_stats"])
        return METHOD.loss(outputs, {})["prediction"], outputs

    gradients, outputs = jax.jit(jax.grad(embed, has_aux=True))(state["target"], views.invariance)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))
    # At first the momentum encoder is the encoder: in training mode both make the same of a view.
    np.testing.assert_allclose(outputs["targets"], outputs["projections"], rtol=1e-5, atol=1e-5)
    rng = np.random.default_rng(4)
    moved = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), jax.device_get(state["target"]))
    _, others = embed(moved, views.invariance)
    assert np.abs(others["targets"] - outputs["targets"]).max() > 1e-2
    np.testing.assert_array_equal(others["predictions"], outputs["predictions"])


def test_loss_is_a_loop_across_views():
    rng = np.random.default_rng(0)
    predictions, targets = rng.normal(size=(2, 2, 5, 8)).astype(np.float32)

    def cosine(x, y):
        return float(np.dot(x, y)) / math.sqrt(float(np.dot(x, x)) * float(np.dot(y, y)))

    expected = sum(
        (2 - 2 * cosine(predictions[view, i], targets[1 - view, i])) / 5 for view in range(2) for i in range(5)
    )
    found = jax.jit(METHOD.loss)({"predictions": predictions, "targets": targets}, {})
    assert set(found) == {"prediction"}
    assert float(found["prediction"]) == pytest.approx(expected, rel=1e-5)
