"""What losses and measures start from: checked arrays of one type, unit rows, and products that lose no digits."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# No TF32 on a GPU and no bfloat16 passes on a TPU: their rounding of 1e-3 is the size of what is measured here.
product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

_SQUARES_VANISH = 1e-15
_CUBES_VANISH = 1e9  # the gradient takes the inverse norm's cube, which float32 does not have of a much longer row


def wide(dtype: Any) -> jnp.dtype:
    """The type that parameters, statistics and sums have where a computation has `dtype`: float32 at least.

    Of float64 it is float32 too where JAX has no 64 bits.
    """
    return jax.dtypes.canonicalize_dtype(jnp.promote_types(dtype, jnp.float32))


def promote(*arrays: ArrayLike) -> tuple[jax.Array, ...]:
    """The arrays in one floating type, float32 at least.

    Raises:
      TypeError: If one is complex: no loss here is one of complex numbers.
    """
    dtype = wide(jnp.result_type(*arrays))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"embeddings must be real numbers; got {dtype}")
    return tuple(jnp.asarray(x, dtype) for x in arrays)


def as_pair(**pair: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Two arrays [n, d] in one floating type, float32 at least.

    Args:
      **pair: the two by the names that the message calls them.

    Raises:
      ValueError: If the shapes differ, are not [n, d], or one of the axes is empty.
    """
    first, second = (jnp.asarray(x) for x in pair.values())
    if first.ndim != 2 or first.shape != second.shape or first.size == 0:
        shapes = " and ".join(f"{name} {jnp.shape(x)}" for name, x in pair.items())
        raise ValueError(f"both must have one shape [n, d], not empty; got {shapes}")
    first, second = promote(first, second)
    return first, second


def as_temperature(temperature: float | jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The temperature as a scalar of the type given.

    Raises:
      ValueError: If it is no scalar; or is known while tracing, and not positive.
    """
    if jnp.shape(temperature):
        raise ValueError(f"temperature must be a scalar; got shape {jnp.shape(temperature)}")
    if not isinstance(temperature, jax.core.Tracer) and not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")
    return jnp.asarray(temperature, dtype)


def normalize(x: ArrayLike, epsilon: float = 1e-12) -> jax.Array:
    """Rows divided by their Euclidean norm: x / max(||x||, epsilon), as `torch.nn.functional.normalize`.

    Computed in float32 at least: the squares of 1e-4 or 300 don't exist in float16. NaN in a row makes it NaN.

    Args:
      x: [..., d], floating.
      epsilon: the smallest norm divided by: 0, or 1e-18 at least, so that its square is a number. A zero row stays
        zero. A row of entries all smaller than epsilon, or than the smallest normal number of x's type, has no
        direction: its gradient is zero (torch's is 1 / epsilon, which would throw the next update anywhere).

    Returns:
      [..., d], of x's type.

    Raises:
      ValueError: if epsilon is none of these, or x is not floating.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or not (epsilon == 0 or epsilon >= 1e-18):
        raise ValueError(f"normalize: x must be floating, epsilon 0 or at least 1e-18; got {x.dtype} and {epsilon}")
    (rows,) = promote(x)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(rows), axis=-1, keepdims=True))
    undirected = largest < max(epsilon, float(jnp.finfo(x.dtype).tiny))  # False for NaN
    rows = jnp.where(undirected, jax.lax.stop_gradient(rows), rows)
    extreme = (largest > _CUBES_VANISH) | ((largest < _SQUARES_VANISH) & ~undirected)
    rows = rows / jnp.where(extreme, largest, 1.0)
    # The maximum is taken of the square: the square root has no derivative at zero.
    squared_norm = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    smallest = max(epsilon**2, float(jnp.finfo(rows.dtype).tiny))
    return (rows * jax.lax.rsqrt(jnp.maximum(squared_norm, smallest))).astype(x.dtype)
