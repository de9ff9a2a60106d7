"""Measures of what an augmentation does to embeddings, and of what their neighbours know. Pure, jit-able, only JAX.

`metrics.motion` has those that are held out, with intervals and null values; `metrics.procrustes` what a small loss
bounds: NumPy, on the host.

Everything is computed in float32 at least, with full-precision matrix products; float64 stays float64.
Raises: every function raises a `ValueError`, naming itself and the value, for shapes or ranges other than documented.
"""

from care_jax.metrics.groups import group_residual
from care_jax.metrics.neighbours import knn_vote, recall_at_k, weighted_knn
from care_jax.metrics.rotations import (
    composition_error,
    relative_equivariance,
    relative_equivariance_median,
    relative_equivariance_ratios,
    wahba,
)

__all__ = [
    "composition_error",
    "group_residual",
    "knn_vote",
    "recall_at_k",
    "relative_equivariance",
    "relative_equivariance_median",
    "relative_equivariance_ratios",
    "wahba",
    "weighted_knn",
]
