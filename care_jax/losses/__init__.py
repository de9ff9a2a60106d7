"""Losses: pure functions of embeddings that know nothing of devices, models or augmentations.

Under `jax.jit` with sharded inputs each is the loss of the global batch: negatives, statistics and groups span all
devices.
"""

from care_jax.losses.contrastive import alignment, info_nce, uniformity
from care_jax.losses.equivariance import equivariance_loss
from care_jax.losses.forms import hyperboloid, lorentz_form, symplectic_form
from care_jax.losses.queue import queue_info_nce
from care_jax.losses.redundancy import barlow_twins, covariance, invariance, variance, vicreg
from care_jax.losses.regression import byol

__all__ = [
    "alignment",
    "barlow_twins",
    "byol",
    "covariance",
    "equivariance_loss",
    "hyperboloid",
    "info_nce",
    "invariance",
    "lorentz_form",
    "queue_info_nce",
    "symplectic_form",
    "uniformity",
    "variance",
    "vicreg",
]
