"""Measures of what an augmentation does to embeddings, and of what their neighbours know. Pure, jit-able, only JAX.

NumPy in float64, on the host: `metrics.motion`, measures that are held out, with intervals and null values;
`metrics.procrustes`, what a small loss bounds; `metrics.clouds`, what is known of clouds of points.

Everything is computed in float32 at least, with full-precision matrix products; in JAX float64 stays float64 where it
has 64 bits (`jax_enable_x64`), and is float32 elsewhere.
Raises: every function raises a `ValueError` for shapes or ranges other than documented, which names the argument and
what it got; those of the functions listed here name the function too.
"""

from care_jax.metrics import clouds, motion, procrustes
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
    "clouds",
    "composition_error",
    "group_residual",
    "knn_vote",
    "motion",
    "procrustes",
    "recall_at_k",
    "relative_equivariance",
    "relative_equivariance_median",
    "relative_equivariance_ratios",
    "wahba",
    "weighted_knn",
]
