"""InfoNCE against a queue of past keys, as momentum contrast trains."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_temperature, matmul, promote


def queue_info_nce(
    queries: ArrayLike, keys: ArrayLike, queue: ArrayLike, *, temperature: float | jax.Array
) -> jax.Array:
    """InfoNCE with one positive and the whole queue as negatives; rows of the batch are no negatives of one another.

        mean_i -log( exp(q_i·k_i / t) / (exp(q_i·k_i / t) + sum_j exp(q_i·queue_j / t)) ),   t the temperature

    It is log(1 + k) when all embeddings coincide. Gradients flow into all three arrays: where keys and queue come
    from a momentum encoder, differentiate by the queries' parameters alone, or pass `jax.lax.stop_gradient(keys)`.

    Args:
      queries: Embeddings of one view, [n, d], unit rows.
      keys: Embeddings of the other view, [n, d], unit rows; row i is the positive of row i of `queries`.
      queue: Embeddings of other inputs, [k, d], unit rows.
      temperature: Positive scalar, in units of the similarity; may be traced (a learned temperature).

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes are not [n, d], [n, d] and [k, d] or an array is empty; if the temperature is not
        positive.

    Example:
      >>> import jax.numpy as jnp
      >>> queries, queue = jnp.eye(3)[:1], jnp.eye(3)[1:]
      >>> print(f"{queue_info_nce(queries, queries, queue, temperature=1.0):.4f}")  # log(1 + 2 exp(-1))
      0.5514

    Source: He et al., MoCo, equation 1.
    """
    queries, keys, queue = jnp.asarray(queries), jnp.asarray(keys), jnp.asarray(queue)
    shapes = f"queries {queries.shape}, keys {keys.shape} and queue {queue.shape}"
    if queries.ndim != 2 or queries.shape != keys.shape or queue.ndim != 2 or queue.shape[1:] != queries.shape[1:]:
        raise ValueError(f"queries and keys must be [n, d] and the queue [k, d]; got {shapes}")
    if queries.size == 0 or queue.size == 0:
        raise ValueError(f"queries, keys and queue must not be empty; got {shapes}")
    queries, keys, queue = promote(queries, keys, queue)
    temperature = as_temperature(temperature, queries.dtype)
    positives = jnp.sum(queries * keys, axis=-1) / temperature
    # Scaled before the product: [n, d] is smaller than [n, k].
    negatives = matmul(queries / temperature, queue.T)
    # log(1 + sum of exp(negative - positive)): once positives win, the loss is far smaller than the logits,
    # and log-sum-exp minus the positive logit would have rounded it away.
    return jnp.mean(jax.nn.softplus(jax.nn.logsumexp(negatives, axis=-1) - positives))
