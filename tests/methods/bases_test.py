"""The bases without a state of their own: which loss of which outputs, with which weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import losses, models
from care_jax.methods import METHODS, Care, Nothing, Objective, Uniformity

RNG = np.random.default_rng(0)
PROJECTIONS = jnp.asarray(RNG.normal(size=(2, 8, 6)), jnp.float32) * 3
OUTPUTS = {"projections": PROJECTIONS, "embeddings": models.normalize(PROJECTIONS)}


def _vicreg(z1, z2):
    return {
        "invariance": 25 * losses.invariance(z1, z2),
        "variance": 2 * losses.variance(z1, z2),
        "covariance": 3 * losses.covariance(z1, z2),
    }


@pytest.mark.parametrize(
    ("name", "settings", "reads", "expected"),
    [
        ("simclr", {"temperature": 0.3}, "embeddings", lambda *z: {"info_nce": losses.info_nce(*z, temperature=0.3)}),
        ("barlow_twins", {}, "projections", lambda *z: {"redundancy": losses.barlow_twins(*z)}),
        (
            "barlow_twins",
            {"off_diagonal_weight": 0.5},
            "projections",
            lambda *z: {"redundancy": losses.barlow_twins(*z, off_diagonal_weight=0.5)},
        ),
        ("vicreg", {"variance_weight": 2.0, "covariance_weight": 3.0}, "projections", _vicreg),
        (
            "alignment",
            {"temperature": 0.3},
            "embeddings",
            lambda *z: {"alignment": losses.alignment(*z, temperature=0.3)},
        ),
        (
            "uniformity",
            {"temperature": 0.3},
            "embeddings",
            lambda *z: {"uniformity": losses.uniformity(*z, temperature=0.3)},
        ),
        ("none", {}, "embeddings", lambda *z: {}),
    ],
)
def test_terms(name, settings, reads, expected):
    method = METHODS[name](**settings)
    assert method.name == name
    found, wanted = jax.jit(lambda outputs: (method.loss(outputs, {}), expected(*outputs[reads])))(OUTPUTS)
    assert found.keys() == wanted.keys()
    for term, value in wanted.items():
        np.testing.assert_allclose(found[term], value, rtol=1e-6)


def _total(objective, outputs):
    return jax.jit(lambda outputs: objective(outputs, {}))(outputs)


def test_the_ablation_adds_up():
    """InfoNCE is alignment plus a log-sum over positives and negatives; L_equi alone is lambda times the term."""
    shared = RNG.normal(size=(2, 8, 6)).astype(np.float32)
    shared /= np.linalg.norm(shared, axis=-1, keepdims=True)
    term = Care(num_groups=2)
    equivariance = jax.jit(losses.equivariance_loss, static_argnames="num_groups")(*shared, num_groups=2)
    total, terms = _total(Objective(Nothing(), term, 0.5), {"equivariance_outputs": shared})
    np.testing.assert_allclose(total, 0.5 * equivariance, rtol=1e-6)
    assert set(terms) == {"loss", "equivariance"}
    uniform = Uniformity(temperature=0.5)
    total, _ = _total(Objective(uniform, term, 0.5), {**OUTPUTS, "equivariance_outputs": shared})
    expected = jax.jit(losses.uniformity)(*OUTPUTS["embeddings"], temperature=0.5) + 0.5 * equivariance
    np.testing.assert_allclose(total, expected, rtol=1e-6)
