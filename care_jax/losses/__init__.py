"""Losses: pure functions of embeddings that know nothing of devices, models or augmentations.

Under `jax.jit` with sharded inputs each is the loss of the global batch: negatives and groups span all devices.
"""

from care_jax.losses.contrastive import alignment, info_nce, uniformity
from care_jax.losses.equivariance import equivariance_loss

__all__ = ["alignment", "equivariance_loss", "info_nce", "uniformity"]
