"""What is known of clouds of points exactly, to check predictions of it: NumPy in float64, on the host."""

import numpy as np
from jax.typing import ArrayLike

from care_jax.metrics.heldout import is_number

# Two largest variances nearer to each other than this share of the larger one: no direction is the first.
_TIE = 1e-9


def radius_of_gyration(points: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """The root mean square distance of the points of each cloud from their mean.

        R = sqrt( sum_i m_i |x_i - x̄|^2 / sum_i m_i ),    x̄ = sum_i m_i x_i / sum_i m_i

    Unchanged by rotations, reflections and translations.

    Args:
      points: x, [n, L, 3]; what the mask leaves out may be anything.
      mask: m, bool [n, L].

    Returns:
      float64 [n], in the units of the points.

    Raises:
      ValueError: other shapes; a mask that is not bool or leaves a cloud without a point; a point that is not finite.
    """
    centred, counts = _centred("radius_of_gyration", points, mask)
    return np.sqrt(np.square(centred).sum(axis=(1, 2)) / counts)


def first_principal_component(points: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """The direction in which the points of each cloud vary most; its sign is undefined.

        v = argmax_{|v| = 1} v' C v,    C = sum_i m_i (x_i - x̄)(x_i - x̄)' / sum_i m_i

    Turns with the cloud: of R x_i + t it is ± R v, for every rotation or reflection R.

    Args:
      points, mask: as of `radius_of_gyration`.

    Returns:
      float64 [n, 3], unit vectors; NaN where no direction is the first one: the two largest variances are equal to nine
      digits, as of a ball, or there is none.

    Raises:
      ValueError: as of `radius_of_gyration`.
    """
    centred, counts = _centred("first_principal_component", points, mask)
    covariances = np.einsum("nld,nle->nde", centred, centred) / counts[:, None, None]
    variances, directions = np.linalg.eigh(covariances)
    defined = variances[:, 2] - variances[:, 1] > _TIE * variances[:, 2]
    return np.where(defined[:, None], directions[:, :, 2], np.nan)


def _centred(name: str, points: ArrayLike, mask: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """x - x̄, float64 [n, L, 3] with 0 where the mask leaves out; the number of points, [n]."""
    points, mask = np.asarray(points), np.asarray(mask)
    if points.ndim != 3 or points.shape[-1] != 3 or not is_number(points.dtype):
        raise ValueError(f"{name}: points must be numbers [n, L, 3]; got {points.dtype}{list(points.shape)}")
    if mask.shape != points.shape[:2] or mask.dtype != bool:
        raise ValueError(f"{name}: mask must be bool {list(points.shape[:2])}; got {mask.dtype}{list(mask.shape)}")
    counts = mask.sum(axis=1)
    if not counts.all():
        raise ValueError(f"{name}: mask leaves cloud {int(counts.argmin())} without a point")
    kept = np.where(mask[:, :, None], points, 0).astype(np.float64)
    if not np.isfinite(kept).all():
        cloud = int(np.flatnonzero(~np.isfinite(kept).all(axis=(1, 2)))[0])
        raise ValueError(f"{name}: points are not finite, first in cloud {cloud}")
    means = kept.sum(axis=1, keepdims=True) / counts[:, None, None]
    return np.where(mask[:, :, None], kept - means, 0.0), counts
