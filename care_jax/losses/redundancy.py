"""Losses without negatives that keep dimensions apart instead: Barlow Twins, and VICReg with its three terms.

Row i of `z1` and row i of `z2` embed two views of input i. Rows are NOT normalised: these losses act on the
statistics of each dimension over the batch, so a batch needs 2 inputs at least. Everything is accumulated in float32
at least; matrix products never use TF32 or bfloat16 passes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_pair, matmul

_BATCH_NORM_EPSILON = 1e-5  # torch.nn.BatchNorm1d's; the published Barlow Twins standardises with it.


def barlow_twins(z1: ArrayLike, z2: ArrayLike, *, off_diagonal_weight: float = 0.0051) -> jax.Array:
    """Barlow Twins: the cross-correlation of the two views' dimensions is drawn to the identity.

        sum_i (1 - c_ii)^2 + off_diagonal_weight * sum_{i != j} c_ij^2,   c = s1' s2 / n

    s1 and s2 are the views with each dimension standardised over the batch: mean 0, and divided by
    sqrt(variance + 1e-5), with the biased variance (over n), as torch's BatchNorm1d(affine=False) does. Where a
    variance overflows (in float32 from embeddings of 1e19 on) the loss is NaN.

    Args:
      z1: First views, [n, d], not normalised.
      z2: Second views, [n, d], not normalised.
      off_diagonal_weight: Weight of the correlations between different dimensions.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [n, d], or n < 2.

    Example:
      >>> import jax.numpy as jnp
      >>> z = jnp.array([[1.0, 2.0], [-1.0, -2.0]])  # the two dimensions are one: c_ij = 1 for all i, j
      >>> print(f"{barlow_twins(z, z, off_diagonal_weight=0.5):.3f}")
      1.000

    Source: Zbontar et al. 2021, equation 1, and its official code (weight 0.0051).
    """
    z1, z2 = _as_views(z1, z2)
    correlation = matmul(_standardised(z1).T, _standardised(z2)) / len(z1)
    on_diagonal = jnp.sum((1 - jnp.diagonal(correlation)) ** 2)
    return on_diagonal + off_diagonal_weight * _sum_of_squares_off_diagonal(correlation)


def invariance(z1: ArrayLike, z2: ArrayLike) -> jax.Array:
    """VICReg's invariance term: the mean of (z1 - z2)^2 over all n * d entries.

    Args:
      z1: First views, [n, d], not normalised.
      z2: Second views, [n, d], not normalised.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [n, d], or n < 2.

    Example:
      >>> import jax.numpy as jnp
      >>> print(invariance(jnp.eye(2), jnp.zeros((2, 2))))  # two of four entries differ by 1
      0.5

    Source: Bardes et al. 2022, equation 5, divided by d as in the official code.
    """
    z1, z2 = _as_views(z1, z2)
    return jnp.mean((z1 - z2) ** 2)


def variance(z1: ArrayLike, z2: ArrayLike, *, target: float = 1.0, epsilon: float = 1e-4) -> jax.Array:
    """VICReg's variance term: how far the standard deviation of each dimension is below its target.

        mean over the two views and over dimensions of  max(0, target - sqrt(variance + epsilon))

    with the unbiased variance, over n - 1.

    Args:
      z1: First views, [n, d], not normalised.
      z2: Second views, [n, d], not normalised.
      target: Standard deviation from which on a dimension costs nothing.
      epsilon: Added to the variance, so that the gradient of a constant dimension stays finite.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [n, d], or n < 2.

    Example:
      >>> import jax.numpy as jnp
      >>> z = jnp.array([[2.0, 1.0], [-2.0, 1.0]])  # the second dimension has collapsed
      >>> print(f"{variance(z, z):.3f}")  # (0 + 1 - sqrt(1e-4)) / 2
      0.495

    Source: Bardes et al. 2022, equations 1 and 2; the halving of the two views' sum is the official code's.
    """

    def shortfall(z: jax.Array) -> jax.Array:
        return jnp.mean(jax.nn.relu(target - jnp.sqrt(jnp.var(z, axis=0, ddof=1) + epsilon)))

    z1, z2 = _as_views(z1, z2)
    return (shortfall(z1) + shortfall(z2)) / 2


def covariance(z1: ArrayLike, z2: ArrayLike) -> jax.Array:
    """VICReg's covariance term: squared covariances between different dimensions, summed over the two views.

        sum over views of  sum_{i != j} cov_ij^2 / d,   cov = (z - mean)' (z - mean) / (n - 1)

    Args:
      z1: First views, [n, d], not normalised.
      z2: Second views, [n, d], not normalised.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [n, d], or n < 2.

    Example:
      >>> import jax.numpy as jnp
      >>> z = jnp.array([[1.0, 2.0], [-1.0, -2.0]])  # cov_12 = cov_21 = 4
      >>> print(covariance(z, jnp.eye(2) * 0))  # (16 + 16) / 2, and nothing from the second view
      16.0

    Source: Bardes et al. 2022, equations 3 and 4.
    """

    def redundancy(z: jax.Array) -> jax.Array:
        centred = z - jnp.mean(z, axis=0)
        return _sum_of_squares_off_diagonal(matmul(centred.T, centred) / (len(z) - 1)) / z.shape[1]

    z1, z2 = _as_views(z1, z2)
    return redundancy(z1) + redundancy(z2)


def vicreg(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> jax.Array:
    """VICReg: the weighted sum of `invariance`, `variance` and `covariance`.

    Args:
      z1: First views, [n, d], not normalised.
      z2: Second views, [n, d], not normalised.
      invariance_weight, variance_weight, covariance_weight: Weights of the terms.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [n, d], or n < 2.

    Example:
      >>> import jax.numpy as jnp
      >>> z = jnp.array([[3.0, 1.0], [-3.0, 1.0], [3.0, -1.0], [-3.0, -1.0]])  # spread out, uncorrelated, invariant
      >>> print(vicreg(z, z))
      0.0

    Source: Bardes et al. 2022, equation 6, and its official code.
    """
    invariance_term = invariance_weight * invariance(z1, z2)
    return invariance_term + variance_weight * variance(z1, z2) + covariance_weight * covariance(z1, z2)


def _standardised(z: jax.Array) -> jax.Array:
    """Each dimension with mean 0 and variance 1 over the batch; NaN where the variance is no number."""
    centred, spread = z - jnp.mean(z, axis=0), jnp.var(z, axis=0)
    # Of a variance that overflows the inverse would be 0: d as a loss, and no gradient, where training has diverged.
    scale = jnp.where(jnp.isfinite(spread), jax.lax.rsqrt(spread + _BATCH_NORM_EPSILON), jnp.nan)
    return centred * scale


def _sum_of_squares_off_diagonal(x: jax.Array) -> jax.Array:
    # Not the sum over all entries less the diagonal's: that difference would be lost as dimensions decorrelate.
    # And 0 times the diagonal, not 0: a single dimension has nothing else that a NaN could show in.
    return jnp.sum(jnp.where(jnp.eye(len(x), dtype=bool), 0.0 * x, x) ** 2)


def _as_views(z1: ArrayLike, z2: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both views in one type; statistics need two rows."""
    z1, z2 = as_pair(z1=z1, z2=z2)
    if len(z1) < 2:
        raise ValueError(f"statistics over the batch need at least 2 rows; got n = {len(z1)}")
    return z1, z2
