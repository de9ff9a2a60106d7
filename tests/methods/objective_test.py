"""The objective is the base loss plus lambda times the equivariance loss."""

import jax.numpy as jnp
import numpy as np

from care_jax import losses
from care_jax.methods import METHODS, TERMS, Objective


def test_objective_weighs_its_terms():
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(4, 8, 3)), jnp.float32)
    z /= jnp.linalg.norm(z, axis=-1, keepdims=True)
    objective = Objective(METHODS["simclr"](temperature=0.5), TERMS["care"](num_groups=2), weight=0.25)
    total, terms = objective({"embeddings": z[:2], "shared": z[2:]}, {})
    expected = losses.info_nce(z[0], z[1], temperature=0.5) + 0.25 * losses.equivariance_loss(z[2], z[3], num_groups=2)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert set(terms) == {"loss", "info_nce", "equivariance"}
    plain, terms = Objective(objective.method)({"embeddings": z[:2]}, {})
    np.testing.assert_allclose(plain, losses.info_nce(z[0], z[1], temperature=0.5), rtol=1e-6)
    assert set(terms) == {"loss", "info_nce"}
