"""What every measure starts from: checked pairs of arrays, and products that lose no digits."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def as_pair(name: str, f: ArrayLike, fa: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both sets of embeddings as checked arrays of one type, float32 at least."""
    f, fa = jnp.asarray(f), jnp.asarray(fa)
    if f.ndim != 2 or f.shape != fa.shape or f.size == 0:
        raise ValueError(f"{name}: both arguments must have one shape [n, d], not empty; got {f.shape} and {fa.shape}")
    dtype = jnp.promote_types(jnp.result_type(f, fa), jnp.float32)
    return f.astype(dtype), fa.astype(dtype)
