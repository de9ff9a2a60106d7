"""Multi-layer perceptrons on features and embeddings: CARE's projection head and the heads of rival methods."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.losses.arrays import wide
from care_jax.models.batch_norm import BatchNorm


@jax.custom_vjp
def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    """x @ kernel + bias in the dtype of x [..., in]; the parameters' gradients are in theirs: devices add them so."""
    y = x @ kernel.astype(x.dtype)
    return y if bias is None else y + bias.astype(x.dtype)


def _affine_forward(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> tuple[jax.Array, Any]:
    return _affine(x, kernel, bias), (x, kernel, bias)


def _affine_backward(residuals: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    x, kernel, bias = residuals
    return (
        gradient @ kernel.T.astype(x.dtype),
        jnp.einsum("...i,...o->io", x, gradient, preferred_element_type=kernel.dtype),
        None if bias is None else jnp.sum(gradient, tuple(range(gradient.ndim - 1)), dtype=bias.dtype),
    )


_affine.defvjp(_affine_forward, _affine_backward)


class Linear(nn.Module):
    """A linear layer initialised as `torch.nn.Linear` is: weights and bias from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Its parameters' gradients are float32 at least whatever the dtype of the computation; `jax.jvp` isn't defined.

    Attributes:
      features: size of the output.
      use_bias: add a bias.
      dtype: of the computation; the parameters, `kernel` [in, out] and `bias` [out], are float32 at least.
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

        kernel = self.param("kernel", uniform, (fan_in, self.features), wide(self.dtype))
        bias = self.param("bias", uniform, (self.features,), wide(self.dtype)) if self.use_bias else None
        return _affine(x.astype(self.dtype), kernel, bias)


class ProjectionHead(nn.Module):
    """The projection MLP: for every hidden size Linear, batch norm (optional), ReLU; then a Linear.

    A hidden Linear before a batch norm has no bias (the norm would remove it). CARE uses hidden sizes (512,) with batch
    norm for CIFAR and STL10, (2048,) without for ImageNet100, and 128 outputs.

    Attributes:
      hidden_sizes: of the hidden layers; () is a single linear layer.
      size: d, of the embeddings.
      batch_norm: normalise the hidden layers.
      dtype: of the computation; parameters, statistics and output are float32 at least.
      output_batch_norm: normalise the outputs, without scale and bias, as Barlow Twins and EquiMod do. They have mean 0
        then; else, where the loss does not mind a shift of all outputs, they can gather on one side of the sphere.

    >>> head = ProjectionHead(hidden_sizes=(32,), size=8, batch_norm=True)
    >>> features = jnp.ones((4, 16))
    >>> head.apply(head.init(jax.random.key(0), features), features).shape
    (4, 8)
    """

    hidden_sizes: tuple[int, ...] = (512,)
    size: int = 128
    batch_norm: bool = True
    dtype: Any = jnp.float32
    output_batch_norm: bool = False

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
          [b * v, size], float32 at least.
        """
        x = features
        for i, hidden_size in enumerate(self.hidden_sizes):
            x = Linear(hidden_size, use_bias=not self.batch_norm, dtype=self.dtype, name=f"linear{i}")(x)
            if self.batch_norm:
                x = BatchNorm(name=f"bn{i}")(x, train, num_views)
            x = nn.relu(x)
        layers = len(self.hidden_sizes)
        x = Linear(self.size, use_bias=not self.output_batch_norm, dtype=self.dtype, name=f"linear{layers}")(x)
        x = x.astype(wide(self.dtype))
        if self.output_batch_norm:
            x = BatchNorm(use_scale=False, use_bias=False, name=f"bn{layers}")(x, train, num_views)
        return x


class LayerNormHead(nn.Module):
    """An MLP whose hidden layers are normalised row by row: for every hidden size Linear, LayerNorm, ReLU; then Linear.

    E-SSL predicts which of four rotations its backbone saw with hidden sizes (2048, 2048) and size 4. No row depends on
    another, so there are no batch statistics, and gradients accumulated over parts of a batch are those of the whole.

    Attributes:
      hidden_sizes: of the hidden layers; () is a single linear layer.
      size: of the output, say the number of classes.
      dtype: of the computation; parameters and output are float32 at least.

    Example:
      >>> head = LayerNormHead(hidden_sizes=(32,), size=4)
      >>> features = jnp.ones((2, 16))
      >>> logits, variables = jax.jit(head.init_with_output)(jax.random.key(0), features)
      >>> logits.shape
      (2, 4)

    Source: Dangovski et al., E-SSL (ICLR 2022), and its CIFAR10 code; the epsilon 1e-5 is torch's.
    """

    hidden_sizes: tuple[int, ...] = (2048, 2048)
    size: int = 4
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if min((*self.hidden_sizes, self.size)) < 1:
            raise ValueError(f"LayerNormHead sizes must be positive, got {self.hidden_sizes} and {self.size}")
        super().__post_init__()

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False, num_views: int = 1) -> jax.Array:
        """Logits of features.

        Args:
          features: [b * v, w].
          train: ignored: there are no batch statistics.
          num_views: ignored likewise.

        Returns:
          [b * v, size], float32 at least.
        """
        x = features
        for i, hidden_size in enumerate(self.hidden_sizes):
            x = Linear(hidden_size, dtype=self.dtype, name=f"linear{i}")(x)
            x = nn.LayerNorm(
                epsilon=1e-5,
                dtype=self.dtype,
                param_dtype=wide(self.dtype),
                use_fast_variance=False,
                name=f"ln{i}",
            )(x)
            x = nn.relu(x)
        x = Linear(self.size, dtype=self.dtype, name=f"linear{len(self.hidden_sizes)}")(x)
        return x.astype(wide(self.dtype))


class EquivariancePredictor(nn.Module):
    """EquiMod's predictor: from an image's embedding and an augmentation's parameters to the embedding of the view.

        p = BatchNorm(W_p parameters),   prediction = BatchNorm(W [embedding; p]),   the last without scale and bias.

    A Linear before a batch norm has no bias (the norm would remove it).

    Attributes:
      size: d, of the predictions.
      parameter_size: of p.
      batch_norm: normalise; False leaves both norms out, and the linear layers have biases.
      dtype: of the computation; parameters, statistics and output are float32 at least.

    Example:
      >>> predictor = EquivariancePredictor(size=8)
      >>> embeddings, parameters = jnp.ones((4, 8)), jnp.ones((4, 15))
      >>> predictions, variables = jax.jit(predictor.init_with_output)(jax.random.key(0), embeddings, parameters)
      >>> predictions.shape
      (4, 8)

    Source: Devillers and Lefort, EquiMod (ICLR 2023), section 3; sizes as in its SimCLR code for CIFAR10.
    """

    size: int = 128
    parameter_size: int = 128
    batch_norm: bool = True
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if min(self.size, self.parameter_size) < 1:
            raise ValueError(
                f"EquivariancePredictor sizes must be positive, got size {self.size} and "
                f"parameter_size {self.parameter_size}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, embeddings: jax.Array, parameters: jax.Array, train: bool = False, num_views: int = 1
    ) -> jax.Array:
        """Predicted embeddings of augmented images.

        Args:
          embeddings: [b * v, d], of the images before the augmentation; the v views of an image in adjacent rows.
          parameters: [b * v, k], of the augmentations, standardised (`care_jax.methods.equimod_parameters`).
          train: batch statistics instead of running averages.
          num_views: v; each view has batch statistics of its own (see `BatchNorm`).

        Returns:
          [b * v, size], float32 at least, not on the sphere.

        Raises:
          ValueError: not as many rows of parameters as of embeddings.
        """
        if parameters.shape[:-1] != embeddings.shape[:-1]:
            raise ValueError(
                f"EquivariancePredictor needs a row of parameters an embedding, got shapes {embeddings.shape} and "
                f"{parameters.shape}"
            )
        p = Linear(self.parameter_size, not self.batch_norm, self.dtype, name="parameter_linear")(parameters)
        if self.batch_norm:
            p = BatchNorm(name="parameter_bn")(p, train, num_views)
        x = jnp.concatenate([embeddings.astype(self.dtype), p], axis=-1)
        x = Linear(self.size, not self.batch_norm, self.dtype, name="linear")(x)
        if self.batch_norm:
            x = BatchNorm(use_scale=False, use_bias=False, name="bn")(x, train, num_views)
        return x.astype(wide(self.dtype))


class HyperPredictor(nn.Module):
    """SIE's predictor: a linear map of embeddings whose numbers are a linear function of the augmentation.

        prediction = W(t) embedding,    W(t) = W_0 + sum_i t_i W_i,    all d x d

    Attributes:
      size: d, of embeddings and predictions.
      dtype: of the computation; parameters and output are float32 at least.

    Source: Garrido et al., SIE (ICML 2023), section 3; its code's linear hypernetwork (there without W_0).
    """

    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, embeddings: jax.Array, parameters: jax.Array, train: bool = False, num_views: int = 1
    ) -> jax.Array:
        """Predicted embeddings, [b * v, d], of embeddings [b * v, d] and augmentations [b * v, k]."""
        weights = Linear(self.size**2, dtype=self.dtype, name="weights")(parameters)
        maps = weights.reshape(len(weights), self.size, self.size)
        predicted = jnp.einsum("bij,bj->bi", maps, embeddings.astype(maps.dtype))
        return predicted.astype(wide(self.dtype))
