"""BYOL's loss: predictions of one view's embedding regressed on the other's, compared by their directions."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def byol(predictions: ArrayLike, targets: ArrayLike) -> jax.Array:
    """Squared distance of normalised predictions to normalised targets: mean_i (2 - 2 cos(p_i, t_i)).

    Gradients flow into both arguments. BYOL trains the predictions alone: pass `jax.lax.stop_gradient(targets)`
    unless the targets' parameters are no variables of the gradient. The published loss adds both directions, one
    call each.

    A zero row has no direction: its cosine is 0, its term 2 and its gradient 0.

    Args:
      predictions: Predicted embeddings, [n, d]; rows are normalised here.
      targets: Embeddings of the other view, [n, d]; rows are normalised here.

    Returns:
      A scalar between 0 and 4, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [n, d], or there is no row.

    Example:
      >>> import jax.numpy as jnp
      >>> predictions, targets = jnp.array([[2.0, 0.0], [0.0, 3.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])
      >>> print(byol(predictions, targets))  # cosines 1 and 0
      1.0

    Source: Grill et al. 2020, equation 2.
    """
    predictions, targets = jnp.asarray(predictions), jnp.asarray(targets)
    if predictions.ndim != 2 or predictions.shape != targets.shape or predictions.size == 0:
        shapes = f"predictions {predictions.shape} and targets {targets.shape}"
        raise ValueError(f"both must have one shape [n, d], not empty; got {shapes}")
    dtype = jnp.promote_types(jnp.result_type(predictions, targets), jnp.float32)
    p, t = _normalised(predictions.astype(dtype)), _normalised(targets.astype(dtype))
    # |p - t|^2, not 2 - 2 p·t: near 0 the latter is the difference of two numbers near 2. A row of zeros, whose
    # distance would be 1 (or 0 from another), counts 2 as its cosine of 0 says.
    squared_distances = jnp.sum((p - t) ** 2, axis=-1)
    undirected = jnp.all(p == 0, axis=-1) | jnp.all(t == 0, axis=-1)
    # 0 times the distance: if the other row is NaN, so is the term.
    return jnp.mean(jnp.where(undirected, 2.0 + 0.0 * squared_distances, squared_distances))


def _normalised(z: jax.Array) -> jax.Array:
    """Rows of length 1; zero rows stay zero, with a gradient of zero."""
    # Scaled by the largest entry first: squares of 1e-25 underflow in float32. The scale cancels: no gradient by it.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(z), axis=-1, keepdims=True))
    zero = largest < jnp.finfo(z.dtype).tiny  # subnormal numbers too: devices differ in whether they exist
    scaled = jnp.where(zero, 0.0, z / jnp.where(zero, 1.0, largest))
    return scaled * jax.lax.rsqrt(jnp.where(zero, 1.0, jnp.sum(scaled**2, axis=-1, keepdims=True)))
