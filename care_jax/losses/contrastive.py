"""InfoNCE (NT-Xent) and the two terms it is made of: alignment of positives, uniformity of negatives.

Row i of `z1` and row i of `z2` embed two views of input i: a positive pair. Each of the 2n rows is an anchor in
turn; its negatives are the 2n - 2 rows that embed other inputs.

Similarities are inner products, so pass unit rows for the cosine. Everything is accumulated in float32 at least, and
matrix products never use TF32 or bfloat16 passes: at temperature 0.01 their rounding would be a hundredfold in the
logits.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def info_nce(z1: ArrayLike, z2: ArrayLike, *, temperature: float | jax.Array) -> jax.Array:
    """NT-Xent over 2n embeddings, self excluded, both directions averaged.

        mean over the 2n anchors a, with positive p(a), of
            -log( exp(a·p(a) / temperature) / sum over b != a of exp(a·b / temperature) )

    It is log(2n - 1) when all embeddings coincide.

    Args:
      z1: First views, [n, d], unit rows.
      z2: Second views, [n, d], unit rows; row i is the positive of row i of `z1`.
      temperature: Positive scalar, in units of the similarity; may be traced (a learned temperature).

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [n, d], or there is no row; if the temperature is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> views = jnp.eye(2)
      >>> print(f"{info_nce(views, views, temperature=1.0):.4f}")  # log(1 + 2 exp(-1))
      0.5514

    Source: Chen et al., SimCLR, equation 1; the InfoNCE term of the official CARE code.
    """
    z1, z2 = _as_views(z1, z2)
    temperature = _as_temperature(temperature, z1.dtype)
    positives = jnp.sum(z1 * z2, axis=-1) / temperature
    # log(1 + sum of exp(negative - positive)): once positives win, the loss is far smaller than the logits,
    # and log-sum-exp minus the positive logit would have rounded it away.
    return jnp.mean(jax.nn.softplus(_log_sum_negatives(z1, z2, temperature) - positives))


def alignment(z1: ArrayLike, z2: ArrayLike, *, temperature: float | jax.Array = 1.0) -> jax.Array:
    """Minus the mean similarity of positives: -mean_i(z1_i·z2_i) / temperature.

    Args:
      z1: First views, [n, d], unit rows.
      z2: Second views, [n, d], unit rows.
      temperature: Positive scalar; may be traced.

    Returns:
      A scalar, float32 (float64 for float64 inputs); between -1/temperature and 1/temperature on unit rows.

    Raises:
      ValueError: If the shapes differ, are not [n, d], or there is no row; if the temperature is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> print(alignment(jnp.eye(3), jnp.eye(3), temperature=0.5))
      -2.0

    Source: L_inv of the CARE paper's ablation (on the sphere, minus the cosine), as the official code scales it.
    """
    z1, z2 = _as_views(z1, z2)
    return -jnp.mean(jnp.sum(z1 * z2, axis=-1)) / _as_temperature(temperature, z1.dtype)


def uniformity(z1: ArrayLike, z2: ArrayLike, *, temperature: float | jax.Array = 1.0) -> jax.Array:
    """Mean over the 2n anchors of log sum over the 2n - 2 negatives of exp(similarity / temperature).

    It is log(2n - 2) + 1/temperature when all embeddings coincide.

    Args:
      z1: First views, [n, d], unit rows.
      z2: Second views, [n, d], unit rows.
      temperature: Positive scalar; may be traced.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ or are not [n, d]; if n < 2, where no anchor has a negative; if the temperature
        is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{uniformity(jnp.eye(2), jnp.eye(2)):.4f}")  # two orthogonal negatives each: log 2
      0.6931

    Source: L_unif of the CARE paper's ablation, as the official code computes it.
    """
    z1, z2 = _as_views(z1, z2)
    if len(z1) < 2:
        raise ValueError(f"uniformity: n = {len(z1)} pair has no negatives; pass at least 2 pairs")
    return jnp.mean(_log_sum_negatives(z1, z2, _as_temperature(temperature, z1.dtype)))


def _log_sum_negatives(z1: jax.Array, z2: jax.Array, temperature: jax.Array) -> jax.Array:
    """For every anchor (view, input), log sum over its negatives of exp(similarity / temperature): [2, n]."""
    # Stacked, not concatenated: the input axis stays an axis of its own, so a sharded batch stays sharded.
    z = jnp.stack([z1, z2])
    similarities = jnp.einsum("aid,bjd->aibj", z, z, precision=jax.lax.Precision.HIGHEST)
    # The same input is no negative, in either view: this excludes both the anchor itself and its positive.
    same_input = jnp.eye(z.shape[1], dtype=bool)[None, :, None, :]
    return jax.nn.logsumexp(jnp.where(same_input, -jnp.inf, similarities / temperature), axis=(2, 3))


def _as_views(z1: ArrayLike, z2: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both views as checked arrays of one type, float32 at least."""
    z1, z2 = jnp.asarray(z1), jnp.asarray(z2)
    if z1.ndim != 2 or z1.shape != z2.shape or z1.size == 0:
        raise ValueError(f"the views must have one shape [n, d], not empty; got z1 {z1.shape} and z2 {z2.shape}")
    dtype = jnp.promote_types(jnp.result_type(z1, z2), jnp.float32)
    return z1.astype(dtype), z2.astype(dtype)


def _as_temperature(temperature: float | jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The temperature as a scalar of the embeddings' type; a value that is known while tracing is checked."""
    if not isinstance(temperature, jax.Array) and not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")
    return jnp.asarray(temperature, dtype)
