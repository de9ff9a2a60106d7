"""Multi-layer perceptrons from features to embeddings."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.models.batch_norm import BatchNorm


class Linear(nn.Module):
    """A linear layer initialised as `torch.nn.Linear` is: weights and bias from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Attributes:
      features: size of the output.
      use_bias: add a bias.
      dtype: of the computation; the parameters, `kernel` [in, out] and `bias` [out], are float32.
    """

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in] -> [..., features] in `dtype`."""
        fan_in = x.shape[-1]

        def uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, minval=-1.0, maxval=1.0) / fan_in**0.5

        kernel = self.param("kernel", uniform, (fan_in, self.features), jnp.float32)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            y = y + self.param("bias", uniform, (self.features,), jnp.float32).astype(self.dtype)
        return y


class ProjectionHead(nn.Module):
    """The projection MLP: for every hidden size Linear, batch norm (optional), ReLU; then a Linear with bias.

    A hidden Linear before a batch norm has no bias (the norm would remove it). CARE uses hidden sizes (512,) with batch
    norm for CIFAR and STL10, (2048,) without for ImageNet100, and 128 outputs.

    Attributes:
      hidden_sizes: of the hidden layers; () is a single linear layer.
      size: d, of the embeddings.
      batch_norm: normalise the hidden layers.
      dtype: of the computation; parameters, statistics and output are float32.

    >>> head = ProjectionHead(hidden_sizes=(32,), size=8, batch_norm=True)
    >>> features = jnp.ones((4, 16))
    >>> head.apply(head.init(jax.random.key(0), features), features).shape
    (4, 8)
    """

    hidden_sizes: tuple[int, ...] = (512,)
    size: int = 128
    batch_norm: bool = True
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if min((*self.hidden_sizes, self.size)) < 1:
            raise ValueError(f"ProjectionHead sizes must be positive, got {self.hidden_sizes} and {self.size}")
        super().__post_init__()

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False, num_views: int = 1) -> jax.Array:
        """Embeddings, not yet on the sphere.

        Args:
          features: [b * v, w], the v views of an image in adjacent rows.
          train: batch statistics instead of running averages.
          num_views: v; each view has batch statistics of its own (see `BatchNorm`).

        Returns:
          [b * v, size] float32.
        """
        x = features
        for i, hidden_size in enumerate(self.hidden_sizes):
            x = Linear(hidden_size, use_bias=not self.batch_norm, dtype=self.dtype, name=f"linear{i}")(x)
            if self.batch_norm:
                x = BatchNorm(name=f"bn{i}")(x, train, num_views)
            x = nn.relu(x)
        x = Linear(self.size, dtype=self.dtype, name=f"linear{len(self.hidden_sizes)}")(x)
        return x.astype(jnp.float32)
