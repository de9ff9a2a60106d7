"""How far a small equivariance loss forces a rotation: the paper's Proposition 3, with its two sides as numbers."""

import math
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from care_jax.metrics.heldout import checked, on_few_threads


class ProcrustesBound(NamedTuple):
    """The two sides of the bound, for one augmentation of n inputs.

    Attributes:
      residual: min over R in O(d) of ||F R' - Fa||, Frobenius.
      loss: sum over all pairs i, j of (f_i·f_j - fa_i·fa_j)^2.
      inverse: ||pinv(F)||, spectral: 1 / the smallest of the d singular values of F; inf where the rank is below d.
      bound: (1 + sqrt 2) * inverse * sqrt(loss).
    """

    residual: float
    loss: float
    inverse: float
    bound: float


@on_few_threads
def procrustes_bound(before: ArrayLike, after: ArrayLike) -> ProcrustesBound:
    """What the best orthogonal map leaves, and what the equivariance loss says it leaves at most.

        min over R in O(d) of ||F R' - Fa||  <=  (1 + sqrt 2) ||pinv(F)|| sqrt( sum over i, j (f_i·f_j - fa_i·fa_j)^2 )

    It holds for any F of rank d: with (2 (sqrt 2 - 1))^(-1/2) = 1.10 in the place of 1 + sqrt 2 too (Tu et al. 2016,
    lemma 5.4). Of a lower rank, as of fewer inputs than dimensions or of collapsed embeddings, nothing is said: the
    bound is inf. NumPy in float64; memory O((n + d) d), whatever the number of pairs.

    Args:
      before: F, f(x_i) in rows, [n, d], n >= 4.
      after: Fa, f(a(x_i)), [n, d], one augmentation for all rows.

    Raises:
      ValueError: shapes that differ or are not [n, d]; n < 4; numbers that are not finite.

    Example:
      >>> import numpy as np
      >>> f = np.eye(4)
      >>> found = procrustes_bound(f, np.diag([1.0, 1.0, 1.0, 2.0]))
      >>> print(found.residual, round(found.loss, 6), found.inverse, round(found.bound, 3))
      1.0 9.0 1.0 7.243

    Source: CARE, Proposition 3; Arias-Castro, Javanmard and Pelletier 2020 (perturbation bounds for Procrustes).
    """
    f = checked("procrustes_bound", "before", before)
    fa = checked("procrustes_bound", "after", after, f.shape)
    size = f.shape[1]
    u, _, vt = np.linalg.svd(fa.T @ f)
    residual = float(np.linalg.norm(f @ (u @ vt).T - fa))
    # F F' - Fa Fa' = [F Fa] diag(I, -I) [F Fa]': by the triangle of its QR no [n, n] is made, and nothing small is the
    # difference of large sums.
    triangle = np.asarray(np.linalg.qr(np.concatenate([f, fa], axis=1), mode="r"))
    gram = triangle[:, :size] @ triangle[:, :size].T - triangle[:, size:] @ triangle[:, size:].T
    loss = float(np.square(gram).sum())
    values = np.linalg.svd(f, compute_uv=False)
    smallest = values[-1] if len(values) == size else 0.0
    full = smallest > max(f.shape) * np.finfo(np.float64).eps * values[0]
    inverse = float(1.0 / smallest) if full else math.inf
    return ProcrustesBound(
        residual, loss, inverse, (1.0 + math.sqrt(2.0)) * inverse * math.sqrt(loss) if full else math.inf
    )
