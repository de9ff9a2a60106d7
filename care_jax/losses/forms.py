"""Bilinear forms for `equivariance_loss`, by the group that keeps them: Lorentz, symplectic; points for the first."""

import operator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import promote


def lorentz_form(d: int) -> jax.Array:
    """The Minkowski form diag(-1, 1, ..., 1), kept by the Lorentz group O(1, d-1): R' B R = B.

    Args:
      d: Dimension of the embeddings, 2 at least. The first coordinate is the time.

    Returns:
      [d, d], of the default float type.

    Raises:
      ValueError: If d < 2.

    Example:
      >>> print(lorentz_form(3))
      [[-1.  0.  0.]
       [ 0.  1.  0.]
       [ 0.  0.  1.]]

    Source: CARE, section 3.2 and appendix D.
    """
    d = operator.index(d)
    if d < 2:
        raise ValueError(f"lorentz_form: d must be at least 2; got {d}")
    return jnp.eye(d).at[0, 0].set(-1.0)


def symplectic_form(d: int) -> jax.Array:
    """The canonical skew form [[0, I], [-I, 0]], kept by the symplectic group Sp(d): R' B R = B.

    Args:
      d: Dimension of the embeddings, even and positive.

    Returns:
      [d, d], of the default float type.

    Raises:
      ValueError: If d is odd or d < 2.

    Example:
      >>> print(symplectic_form(2))
      [[ 0.  1.]
       [-1.  0.]]

    Source: CARE, section 3.2 and appendix D.
    """
    d = operator.index(d)
    if d < 2 or d % 2:
        raise ValueError(f"symplectic_form: d must be even and at least 2; got {d}")
    return jnp.eye(d, k=d // 2) - jnp.eye(d, k=-(d // 2))


def hyperboloid(x: ArrayLike) -> jax.Array:
    """Points of the upper sheet of the hyperboloid above x: f = (sqrt(1 + |x|^2), x).

    There f' B f = -1 under `lorentz_form`, and members of the Lorentz group that keep the direction of time keep the
    sheet: it is to them what the sphere is to rotations.

    Args:
      x: [..., d-1], any values.

    Returns:
      [..., d], float32 (float64 for float64 inputs).

    Raises:
      ValueError: If x is a scalar or its last axis is empty.

    Example:
      >>> import jax.numpy as jnp
      >>> print(hyperboloid(jnp.array([3.0, 4.0, 0.0])).round(2))  # time sqrt(26)
      [5.1 3.  4.  0. ]

    Source: CARE, appendix D; the hyperboloid model of hyperbolic space.
    """
    x = jnp.asarray(x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"hyperboloid: x must be [..., d-1] with d >= 2; got shape {x.shape}")
    (x,) = promote(x)
    return jnp.concatenate([jnp.sqrt(1 + jnp.sum(x**2, axis=-1, keepdims=True)), x], axis=-1)
