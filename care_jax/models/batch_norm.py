"""Batch normalisation that equals `torch.nn.BatchNorm1d` / `BatchNorm2d`, with statistics per view.

`flax.linen.BatchNorm` can't stand in for it: it folds the biased variance into the running average, torch the
unbiased one, so evaluation-mode outputs differ (visibly so for small batches).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5  # torch's default
MOMENTUM = 0.1  # torch's convention: the share of the NEW statistic


class BatchNorm(nn.Module):
    """Normalises every channel by its mean and variance over the other axes.

    Training: y = scale (x - mean) / sqrt(var + 1e-5) + bias with the batch's mean and biased variance var; the running
    averages move as running = 0.9 running + 0.1 batch, with the unbiased variance n / (n - 1) var.
    Evaluation: the running averages take the place of the batch's statistics.

    There is no `axis_name`: under `jit` with sharded inputs the statistics are those of the global batch.

    Attributes:
      use_scale: learn a scale per channel (torch's `affine` sets both this and `use_bias`).
      use_bias: learn a bias per channel.
      scale_init: initialiser of the scale; zeros make a residual branch start as nothing.

    Variables (all float32 [c]): `params` scale, bias; `batch_stats` mean, var.
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
          [b * v, ..., c], in the dtype of `x`; computed in float32.

        Raises:
          ValueError: if the rows don't divide by `num_views`, or if training sees one value per channel.
        """
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32) if self.use_scale else None
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32) if self.use_bias else None
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)

        # [b, v, positions, c]
        grouped = _split_views(x, num_views).astype(jnp.float32)
        if train:
            count = grouped.shape[0] * grouped.shape[2]
            if count < 2 and not self.is_initializing():
                raise ValueError(f"batch norm can't train on one value per channel: {x.shape}, {num_views} view(s)")
            mean = _mean(grouped)
            # Not E[x^2] - E[x]^2: that cancels where |mean| is large, and was no faster on a CPU.
            var = _mean(jnp.square(grouped - mean))
            if not self.is_initializing():
                unbiased_var = var * (count / (count - 1))
                for view in range(num_views):
                    # Not `+=`: the variables may be the caller's numpy arrays, which that would write to.
                    running_mean.value = (1 - MOMENTUM) * running_mean.value + MOMENTUM * mean[0, view, 0]
                    running_var.value = (1 - MOMENTUM) * running_var.value + MOMENTUM * unbiased_var[0, view, 0]
        else:
            mean, var = running_mean.value, running_var.value
        factor = jax.lax.rsqrt(var + EPSILON)
        if scale is not None:
            factor = factor * scale
        y = (grouped - mean) * factor
        if bias is not None:
            y = y + bias
        return y.reshape(x.shape).astype(x.dtype)


def _split_views(x: jax.Array, num_views: int) -> jax.Array:
    """[b * v, ..., c] -> [b, v, positions, c]."""
    if num_views < 1 or x.shape[0] % num_views:
        raise ValueError(f"batch norm needs rows that divide by num_views: input {x.shape}, num_views {num_views}")
    return x.reshape(x.shape[0] // num_views, num_views, -1, x.shape[-1])


def _mean(x: jax.Array) -> jax.Array:
    """[b, v, positions, c] -> [1, v, 1, c]: first over positions, then over the batch."""
    return x.mean(2, keepdims=True).mean(0, keepdims=True)
