"""The objective is the base loss plus lambda times the equivariance loss."""

import jax
import numpy as np

from care_jax import losses
from care_jax.methods import METHODS, TERMS, Objective


def _total(objective, outputs):
    return jax.jit(lambda outputs: objective(outputs, {}))(outputs)


def test_objective_weighs_its_terms():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 8, 3)).astype(np.float32)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    objective = Objective(METHODS["simclr"](temperature=0.5), TERMS["care"](num_groups=2), weight=0.25)
    total, terms = _total(objective, {"embeddings": z[:2], "equivariance_outputs": z[2:]})
    info_nce = jax.jit(losses.info_nce)(z[0], z[1], temperature=0.5)
    equivariance = jax.jit(losses.equivariance_loss, static_argnames="num_groups")(z[2], z[3], num_groups=2)
    np.testing.assert_allclose(total, info_nce + 0.25 * equivariance, rtol=1e-6)
    assert set(terms) == {"loss", "info_nce", "equivariance"}
    plain, terms = _total(Objective(objective.method), {"embeddings": z[:2]})
    np.testing.assert_allclose(plain, info_nce, rtol=1e-6)
    assert set(terms) == {"loss", "info_nce"}
