"""BYOL's loss: predictions of one view's embedding regressed on the other's, compared by their directions."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_pair, normalize


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
    predictions, targets = as_pair(predictions=predictions, targets=targets)
    p, t = normalize(predictions, epsilon=0), normalize(targets, epsilon=0)
    # |p - t|^2, not 2 - 2 p·t: near 0 the latter is the difference of two numbers near 2. A row of zeros, whose
    # distance would be 1 (or 0 from another), counts 2 as its cosine of 0 says.
    squared_distances = jnp.sum((p - t) ** 2, axis=-1)
    undirected = jnp.all(p == 0, axis=-1) | jnp.all(t == 0, axis=-1)
    # 0 times the distance: if the other row is NaN, so is the term.
    return jnp.mean(jnp.where(undirected, 2.0 + 0.0 * squared_distances, squared_distances))
