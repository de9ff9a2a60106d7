"""SIE against a transcription of its published formulas, in float64: the terms, their gradients, the predictor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.augment import AugmentSpec, CloudSpec, draw_uniforms, sample, sample_cloud
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.methods import SIE, Care, Nothing, Objective, SimCLR, Views, equimod_parameters, equimod_standardisation
from care_jax.methods.sie import relation
from care_jax.models import HyperPredictor, ProjectionHead

B, D, K = 12, 6, 5
SPEC = AugmentSpec(
    size=8, mean=(0.5,) * 3, std=(0.25,) * 3, jitter_probability=0.8, hue=0.2, brightness=0.4, flip_probability=0.5
)


def _outputs(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "invariant_halves": rng.normal(size=(2, B, D)),
        "equivariant_halves": rng.normal(size=(2, B, D + 1)),
        "predicted_halves": 0.3 * rng.normal(size=(1, B, D + 1)),
    }


def _published(outputs):
    """The loss of the official code, line by line: sim 10, equi factor 0.45, std 10, cov 1."""
    torch = pytest.importorskip("torch")
    relu = torch.nn.functional.relu
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in outputs.items()}
    (x_inv, y_inv), (x_equi, y_equi) = leaves["invariant_halves"], leaves["equivariant_halves"]
    predicted = leaves["predicted_halves"][0]
    x, y = torch.cat([x_inv, x_equi], 1), torch.cat([y_inv, y_equi], 1)
    shortfalls = []
    for z in (predicted, x, y):
        z = z - z.mean(0)
        shortfalls.append(relu(1 - (z.var(0) + 0.0001).sqrt()).mean() / 2)
    total_covariance = 0.0
    for z in (x, y):
        z = z - z.mean(0)
        covariance = z.T @ z / (len(z) - 1)
        off = covariance - torch.diag(torch.diag(covariance))
        total_covariance = total_covariance + off.pow(2).sum() / z.shape[1]
    mse = torch.nn.functional.mse_loss
    total = 10 * mse(x_inv, y_inv) + 0.45 * 10 * mse(predicted, y_equi)
    total = total + 10 * (shortfalls[1] + shortfalls[2]) + 10 * shortfalls[0] + total_covariance
    total.backward()
    return total.item(), {name: leaf.grad.numpy() for name, leaf in leaves.items()}


def _term():
    return SIE(spec=SPEC, half_head=ProjectionHead((8,), D))


@pytest.mark.slow
def test_the_loss_and_its_gradient_are_the_published_ones():
    outputs = _outputs()
    expected, gradients = _published(outputs)
    with jax.enable_x64(True):
        term = _term()
        value, found = jax.value_and_grad(lambda made: sum(term.loss(made).values()))(
            {name: jnp.asarray(x) for name, x in outputs.items()}
        )
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-10, atol=1e-14)


def test_the_predictor_is_a_linear_map_that_the_parameters_decide():
    rng = np.random.default_rng(1)
    predictor, embeddings, parameters = HyperPredictor(D), rng.normal(size=(B, D)), rng.normal(size=(B, K))
    predicted, variables = predictor.init_with_output(jax.random.key(0), embeddings, parameters)
    kernel, bias = (np.asarray(variables["params"]["weights"][name], np.float64) for name in ("kernel", "bias"))
    for i in range(B):
        chosen = (bias + parameters[i] @ kernel).reshape(D, D)
        np.testing.assert_allclose(predicted[i], chosen @ embeddings[i], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_lies_between_two_views_of_an_image():
    drawn = sample(draw_uniforms(jax.random.key(2), (2, B), SPEC), SPEC, height=20, width=24)
    views = Views(invariance=jnp.zeros((2, B, 8, 8, 3)), drawn=drawn, image_size=(20, 24))
    first, second = equimod_parameters(drawn, height=20, width=24)
    _, deviation = equimod_standardisation(SPEC)
    np.testing.assert_allclose(relation(views, SPEC), (second - first) / deviation, rtol=1e-6)
    same = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), drawn)
    assert not relation(views._replace(drawn=same), SPEC).any()


def test_what_lies_between_two_views_of_a_cloud():
    spec = CloudSpec(rotation=True, scaling=0.3)
    drawn = sample_cloud(draw_uniforms(jax.random.key(0), (2, B), spec), spec)
    found = relation(Views(invariance=jnp.zeros((2, B, 3, 4)), drawn=drawn), spec)
    for i in range(B):
        first, second = np.asarray(drawn.rotation[:, i], np.float64)
        np.testing.assert_allclose(found[i, :9].reshape(3, 3) @ first, second, atol=1e-6)
    np.testing.assert_allclose(found[:, 9], np.log(drawn.scale[1] / drawn.scale[0]), rtol=1e-5)


def test_an_odd_size_is_refused(tiny_config):
    config = tiny_config(**{"equivariance.term": "sie", "equivariance.weight": 1.0, "model.head_size": 7})
    with pytest.raises(ConfigError, match=r"^config.equivariance.term is 'sie', which halves config.model.head_size, "):
        build.check(config, sharding.make_mesh())


def test_what_trains_the_projection_head_is_known():
    """With SIE alone, and with CARE on features, it stays as it was drawn: its outputs are measured as nothing."""
    term = _term()
    assert not Objective(Nothing(), term, 1.0).projects and Objective(SimCLR(), term, 1.0).projects
    assert Objective(Nothing(), Care(num_groups=2), 1.0).projects
    assert not Objective(Nothing(), Care(num_groups=2, on="features"), 1.0).projects
    assert not Objective(Nothing()).projects
