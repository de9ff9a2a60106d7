"""Batch normalisation that equals `torch.nn.BatchNorm1d` / `BatchNorm2d`, with statistics per view.

`flax.linen.BatchNorm` can't stand in for it: it folds the biased variance into the running average, torch the
unbiased one, so evaluation-mode outputs differ (visibly so for small batches).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.losses.arrays import wide

EPSILON = 1e-5  # torch's default
MOMENTUM = 0.1  # torch's convention: the share of the NEW statistic


class BatchNorm(nn.Module):
    """Normalises every channel by its mean and variance over the other axes.

    Training: y = scale (x - mean) / sqrt(var + 1e-5) + bias with the batch's mean and biased variance var; the running
    averages move as running = 0.9 running + 0.1 batch, with the unbiased variance n / (n - 1) var.
    Evaluation: the running averages take the place of the batch's statistics.

    There is no `axis_name`: under `jit` with sharded inputs the statistics are those of the global batch. In training
    the gradient is written out: none goes through the running averages, and `jax.jvp` isn't defined.

    Attributes:
      use_scale: learn a scale per channel (torch's `affine` sets both this and `use_bias`).
      use_bias: learn a bias per channel.
      scale_init: initialiser of the scale; zeros make a residual branch start as nothing.

    Variables (all [c], float32; float64 for float64 inputs): `params` scale, bias; `batch_stats` mean, var.
    """

    use_scale: bool = True
    use_bias: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, num_views: int = 1) -> jax.Array:
        """Normalises `x`.

        Args:
          x: [b * v, ..., c], the v views of an image in adjacent rows; any floating dtype.
          train: normalise by the batch's own statistics and move the running averages (collection `batch_stats`).
          num_views: v. Each view is normalised by its own statistics; these enter the running averages one after the
            other, as v forward passes would.

        Returns:
          [b * v, ..., c], in the dtype of `x`; computed in float32 at least.

        Raises:
          ValueError: if the rows don't divide by `num_views`, or if training sees one value per channel.
        """
        channels, dtype = x.shape[-1], wide(x.dtype)
        scale = self.param("scale", self.scale_init, (channels,), dtype) if self.use_scale else None
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), dtype) if self.use_bias else None
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), dtype)

        if num_views < 1 or x.shape[0] % num_views:
            raise ValueError(f"batch norm needs rows that divide by num_views: input {x.shape}, num_views {num_views}")
        if not train:
            factor = jax.lax.rsqrt(running_var.value + EPSILON)
            y = (x.astype(factor.dtype) - running_mean.value) * (factor if scale is None else factor * scale)
            return (y if bias is None else y + bias).astype(x.dtype)
        count = x.size // channels // num_views
        if count < 2 and not self.is_initializing():
            raise ValueError(f"batch norm can't train on one value per channel: {x.shape}, {num_views} view(s)")
        y, mean, var = _normalize(x, scale, bias, num_views)
        if not self.is_initializing():
            unbiased_var = var * (count / (count - 1))
            for view in range(num_views):
                # Not `+=`: the variables may be the caller's numpy arrays, which that would write to.
                running_mean.value = (1 - MOMENTUM) * running_mean.value + MOMENTUM * mean[view]
                running_var.value = (1 - MOMENTUM) * running_var.value + MOMENTUM * unbiased_var[view]
        return y


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(wide(x.dtype))


def _means(num_views: int, *arrays: jax.Array) -> jax.Array:
    """Of each of k arrays [b * v, ..., c] the mean by view and channel: [k, v, c].

    First over an image's positions, then over images. The large arrays are read as they lie, all k in one pass: with
    the views as an axis of their own XLA copies them, transposed, on TPUs and GPUs alike. Together, because devices
    that share the images then add their sums up in one exchange.
    """
    rows = jnp.stack([x.mean(tuple(range(1, x.ndim - 1))) for x in arrays])
    return rows.reshape(len(arrays), -1, num_views, rows.shape[-1]).mean(1)


def _to_rows(x: jax.Array, like: jax.Array) -> jax.Array:
    """[v, c] -> [b * v, 1, ..., 1, c]: to every row what belongs to its view."""
    rows = x if len(x) == 1 else jnp.tile(x, (len(like) // len(x), 1))
    return rows.reshape(-1, *(1,) * (like.ndim - 2), x.shape[-1])


def _statistics(x: jax.Array, num_views: int) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance by view and channel, each [v, c]."""
    if x.dtype.itemsize < 4:
        # One pass. With r = |mean| / standard deviation, E[x^2] - E[x]^2 in float32 is off by about 1e-7 r^2 of the
        # variance, the rounding of x itself to bfloat16 by 1e-6 r^2.
        mean, square = _means(num_views, _wide(x), jnp.square(_wide(x)))
        return mean, jnp.maximum(square - jnp.square(mean), 0)
    (mean,) = _means(num_views, x)
    (var,) = _means(num_views, jnp.square(x - _to_rows(mean, x)))
    return mean, var


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, num_views: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The normalised x [b * v, ..., c] and its mean and variance [v, c], through which no gradient goes."""
    return _forward(x, scale, bias, num_views)[0]


def _forward(x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, num_views: int) -> tuple[Any, Any]:
    mean, var = _statistics(x, num_views)
    inverse = jax.lax.rsqrt(var + EPSILON)
    factor = inverse if scale is None else inverse * scale
    y = (_wide(x) - _to_rows(mean, x)) * _to_rows(factor, x)
    y = y if bias is None else y + bias
    return (y.astype(x.dtype), mean, var), (x, scale, bias, mean, inverse)


def _backward(num_views: int, residuals: Any, gradients: Any) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """With z = (x - mean) / sqrt(var + 1e-5): scale / sqrt(var + 1e-5) (g - mean(g) - z mean(g z)).

    Its two means are taken in one pass and one exchange; differentiated by JAX they are four.
    """
    x, scale, bias, mean, inverse = residuals
    gradient, centered = _wide(gradients[0]), _wide(x) - _to_rows(mean, x)
    mean_gradient, mean_product = _means(num_views, gradient, gradient * centered)
    factor = inverse if scale is None else inverse * scale
    through = gradient - _to_rows(mean_gradient, x) - centered * _to_rows(mean_product * jnp.square(inverse), x)
    count = x.size // x.shape[-1] // num_views
    return (
        (_to_rows(factor, x) * through).astype(x.dtype),
        None if scale is None else count * (mean_product * inverse).sum(0),
        None if bias is None else count * mean_gradient.sum(0),
    )


_normalize.defvjp(_forward, _backward)
