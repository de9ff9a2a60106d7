"""InfoNCE (NT-Xent) and the two terms it is made of: alignment of positives, uniformity of negatives.

Row i of `z1` and row i of `z2` embed two views of input i: a positive pair. Each of the 2n rows is an anchor in
turn; its negatives are the 2n - 2 rows that embed other inputs.

Similarities are inner products, so pass unit rows for the cosine. Everything is accumulated in float32 at least, and
matrix products never use TF32 or bfloat16 passes: at temperature 0.01 their rounding would be a hundredfold in the
logits.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_pair, as_temperature, product


def info_nce(z1: ArrayLike, z2: ArrayLike, *, temperature: float | jax.Array) -> jax.Array:
    """NT-Xent over 2n embeddings, self excluded, both directions averaged.

        mean over the 2n anchors a, with positive p(a), of
            -log( exp(a·p(a) / temperature) / sum over b != a of exp(a·b / temperature) )

    It is log(2n - 1) when all embeddings coincide. Its gradient is written out, and `jax.jvp` isn't defined.

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
    z1, z2 = as_pair(z1=z1, z2=z2)
    temperature = as_temperature(temperature, z1.dtype)
    positives = jnp.sum(z1 * z2, axis=-1) / temperature
    # log(1 + sum of exp(negative - positive)): once positives win, the loss is far smaller than the logits,
    # and log-sum-exp minus the positive logit would have rounded it away.
    return jnp.mean(jax.nn.softplus(_log_sum_negatives(_stacked(z1, z2, temperature)) - positives))


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
    z1, z2 = as_pair(z1=z1, z2=z2)
    return -jnp.mean(jnp.sum(z1 * z2, axis=-1)) / as_temperature(temperature, z1.dtype)


def uniformity(z1: ArrayLike, z2: ArrayLike, *, temperature: float | jax.Array = 1.0) -> jax.Array:
    """Mean over the 2n anchors of log sum over the 2n - 2 negatives of exp(similarity / temperature).

    It is log(2n - 2) + 1/temperature when all embeddings coincide. Its gradient is written out, and `jax.jvp` isn't
    defined.

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
    z1, z2 = as_pair(z1=z1, z2=z2)
    if len(z1) < 2:
        raise ValueError(f"uniformity: n = {len(z1)} pair has no negatives; pass at least 2 pairs")
    return jnp.mean(_log_sum_negatives(_stacked(z1, z2, as_temperature(temperature, z1.dtype))))


# Similarities held at once, in entries: 64 MiB in float32. Up to 4,096 embeddings that is all of them.
_SIMILARITIES_AT_ONCE = 2**24


@jax.custom_vjp
def _log_sum_negatives(z: jax.Array) -> jax.Array:
    """For every anchor (view, input), log sum over its negatives of exp(inner product): [2, n, d] -> [2, n].

    The [2n, 2n] similarities never exist at once: blocks of columns pass by, going forward and, made again, going back.
    """
    blocks, inputs = _column_blocks(z)

    def add_block(carry: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        largest, total = carry
        z_block, inputs = block
        similarities = _in_negatives(product("aid,bjd->aibj", z, z_block), inputs, -jnp.inf)
        new_largest = jnp.maximum(largest, jnp.max(similarities, axis=(2, 3)))
        # Without a negative so far the largest is -inf, and -inf - -inf would be no number.
        shift = jnp.where(jnp.isfinite(new_largest), new_largest, 0.0)
        total = total * jnp.exp(largest - shift) + jnp.sum(jnp.exp(similarities - shift[:, :, None, None]), axis=(2, 3))
        return (new_largest, total), None

    zeros = _zeros_like(z[..., 0])
    nothing = zeros - jnp.inf, zeros
    (largest, total), _ = jax.lax.scan(add_block, nothing, (blocks, inputs))
    return jnp.log(total) + jnp.where(jnp.isfinite(largest), largest, 0.0)


def _log_sum_negatives_forward(z: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    log_sums = _log_sum_negatives(z)
    return log_sums, (z, log_sums)


def _log_sum_negatives_backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    """d/dz_i = sum_j (g_i p_ij + g_j p_ji) z_j with p_ij = exp(z_i·z_j - log sum of i), g the gradient.

    Each row's gradient is a sum over columns alone, so that rows cut over devices never add up across them.
    """
    z, log_sums = residuals
    blocks, inputs = _column_blocks(z)
    block_log_sums, _ = _column_blocks(log_sums)
    block_gradients, _ = _column_blocks(gradient)

    def add_block(total: jax.Array, block: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        z_block, inputs, block_log_sums, block_gradient = block
        similarities = product("aid,bjd->aibj", z, z_block)
        as_anchor = gradient[:, :, None, None] * jnp.exp(similarities - log_sums[:, :, None, None])
        as_negative = block_gradient * jnp.exp(similarities - block_log_sums)
        weights = _in_negatives(as_anchor + as_negative, inputs, 0.0)
        return total + product("aibj,bjd->aid", weights, z_block), None

    total, _ = jax.lax.scan(add_block, _zeros_like(z), (blocks, inputs, block_log_sums, block_gradients))
    return (total,)


_log_sum_negatives.defvjp(_log_sum_negatives_forward, _log_sum_negatives_backward)


def _zeros_like(x: jax.Array) -> jax.Array:
    """Zeros that vary over a mesh as x does: inside `jax.shard_map` a scan must begin with what it carries on."""
    return jnp.where(x > 0, jnp.zeros((), x.dtype), jnp.zeros((), x.dtype))


def _column_blocks(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x [2, n, ...] as k blocks [k, 2, m, ...], and the input of each of their columns [k, m]; n and beyond is padding.

    Block j holds inputs j, j + k, j + 2k, ...: where devices share the inputs, each has its share of every block.
    """
    n = x.shape[1]
    size = max(_SIMILARITIES_AT_ONCE // (4 * n), 1)
    num_blocks = -(-n // size)
    size = -(-n // num_blocks)  # as equal as they can be
    num_blocks = -(-n // size)
    x = jnp.pad(x, [(0, 0), (0, num_blocks * size - n)] + [(0, 0)] * (x.ndim - 2))
    blocks = jnp.moveaxis(x.reshape(2, size, num_blocks, *x.shape[2:]), 2, 0)
    return blocks, jnp.arange(num_blocks * size).reshape(size, num_blocks).T


def _in_negatives(x: jax.Array, inputs: jax.Array, otherwise: float) -> jax.Array:
    """x [2, n, 2, m] where column (., j) is a negative of anchor (., i), and `otherwise` where it is not.

    The same input is no negative, in either view: that excludes both the anchor itself and its positive. These few
    entries are overwritten; to select among all of them would take as long as all the rest.
    """
    n, m = x.shape[1], len(inputs)
    x = x.at[:, inputs, :, jnp.arange(m)].set(otherwise, mode="drop")
    padded = n % m > 0  # else no column is padding
    return jnp.where(inputs < n, x, otherwise) if padded else x


def _stacked(z1: jax.Array, z2: jax.Array, temperature: jax.Array) -> jax.Array:
    """Both views, [2, n, d], scaled so that their inner products are similarities / temperature."""
    # Stacked, not concatenated: the input axis stays an axis of its own, so a sharded batch stays sharded.
    return jnp.stack([z1, z2]) / jnp.sqrt(temperature)
