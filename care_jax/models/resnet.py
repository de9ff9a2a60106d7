"""ResNets equal to torchvision's, NHWC, without the classifier.

He et al., "Deep Residual Learning for Image Recognition", 2016; the bottleneck is torchvision's (v1.5: the stride sits
on the 3x3 convolution). The names of modules follow torchvision's, so that weights travel both ways (torch_weights.py).
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.models.batch_norm import BatchNorm

# torchvision's initialisation: kaiming_normal_(mode="fan_out", nonlinearity="relu"), not truncated.
_kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

STEMS = ("cifar", "imagenet")


def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    # torch pads both sides alike; XLA's "SAME" pads a stride-2 convolution more on the right.
    padding = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _kernel_gradient(x: jax.Array, gradient: jax.Array, size: int, stride: int) -> jax.Array:
    """The gradient of a [size, size, in, out] kernel, as XLA differentiates the convolution."""
    kernel = jnp.zeros((size, size, x.shape[-1], gradient.shape[-1]), x.dtype)
    return jax.vjp(lambda kernel: _convolve(x, kernel, stride), kernel)[1](gradient)[0]


def _kernel_gradient_by_patches(x: jax.Array, gradient: jax.Array, size: int, stride: int) -> jax.Array:
    """The same as patches.T @ gradient, summed over chunks of images whose patches fit a processor's cache.

    The batch may be sharded over all devices: each of them then sums over its own images, and the sums meet once.
    """
    b, rows, columns, out_features = gradient.shape
    devices = math.gcd(b, jax.device_count())
    bytes_per_image = 4 * rows * columns * size**2 * x.shape[-1]
    share = b // devices
    chunk = max(n for n in range(1, share + 1) if share % n == 0 and (n == 1 or n * bytes_per_image <= 2**22))
    # A single device needs no axis: XLA's batched products are slower on CPUs.
    lead = (devices,) if devices > 1 else ()
    padding = (size - 1) // 2
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def add_chunk(totals: jax.Array, operands: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        x, gradient = operands
        patches = [
            x[..., i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride, :]
            for i in range(size)
            for j in range(size)
        ]
        return totals + jnp.einsum(
            "...np,...no->...po",
            jnp.concatenate(patches, axis=-1).reshape(*lead, chunk * rows * columns, -1),
            gradient.reshape(*lead, chunk * rows * columns, -1),
            preferred_element_type=jnp.float32,
        ), None

    # [chunks, devices, chunk, h, w, features]
    operands = tuple(jnp.moveaxis(y.reshape(*lead, -1, chunk, *y.shape[1:]), len(lead), 0) for y in (x, gradient))
    totals = jnp.zeros((*lead, size**2 * x.shape[-1], out_features), jnp.float32)
    totals, _ = jax.lax.scan(add_chunk, totals, operands)
    total = totals.sum(0) if lead else totals
    return total.reshape(size, size, x.shape[-1], out_features).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution padded by (size - 1) // 2 on every side, as ResNet's are in torch.

    On CPUs, XLA's gradient with respect to the kernel takes several times as long as the convolution; there it is
    computed as a matrix product of patches, which makes a training step of a narrow ResNet-18 1.8 times as fast.
    Elsewhere XLA's own gradient is used. The price is that forward-mode differentiation (`jax.jvp`) isn't defined.

    Args:
      x: [b, h, w, in].
      kernel: [size, size, in, out], of the dtype of `x`; an odd size.
      stride: of both axes.

    Returns:
      [b, h', w', out], h' = (h - 1) // stride + 1.
    """
    return _convolve(x, kernel, stride)


def _convolve_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(
    stride: int, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    (x_gradient,) = jax.vjp(lambda x: _convolve(x, kernel, stride), x)[1](gradient)
    kernel_gradient = jax.lax.platform_dependent(
        x,
        gradient,
        cpu=functools.partial(_kernel_gradient_by_patches, size=kernel.shape[0], stride=stride),
        default=functools.partial(_kernel_gradient, size=kernel.shape[0], stride=stride),
    )
    return x_gradient, kernel_gradient


convolve.defvjp(_convolve_forward, _convolve_backward)


class Conv(nn.Module):
    """A square convolution without bias, padded as in torch; parameter `kernel`, float32 [size, size, in, out]."""

    features: int
    size: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, in] -> [b, h', w', features] in `dtype`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", _kaiming_normal, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.size == 1:
            # A matrix product per position: XLA's gradients of a strided 1x1 convolution are slow on CPUs.
            return x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
        return convolve(x, kernel, self.stride)


class ResidualBlock(nn.Module):
    """A basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1 to four times the features) block: relu(shortcut + branch)."""

    features: int
    stride: int
    bottleneck: bool
    dtype: Any
    zero_init_residual: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, num_views: int) -> jax.Array:
        if self.bottleneck:
            convolutions = [(self.features, 1, 1), (self.features, 3, self.stride), (4 * self.features, 1, 1)]
        else:
            convolutions = [(self.features, 3, self.stride), (self.features, 3, 1)]
        out_features = convolutions[-1][0]

        y = x
        for i, (features, kernel, stride) in enumerate(convolutions, start=1):
            last = i == len(convolutions)
            init = nn.initializers.zeros_init() if last and self.zero_init_residual else nn.initializers.ones_init()
            y = Conv(features, kernel, stride, self.dtype, name=f"conv{i}")(y)
            y = BatchNorm(scale_init=init, name=f"bn{i}")(y, train, num_views)
            if not last:
                y = nn.relu(y)

        if self.stride != 1 or x.shape[-1] != out_features:
            x = Conv(out_features, 1, self.stride, self.dtype, name="downsample_conv")(x)
            x = BatchNorm(name="downsample_bn")(x, train, num_views)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A residual network from images to pooled features.

    Attributes:
      stage_sizes: blocks in each stage; every stage after the first halves the resolution and doubles the features.
      bottleneck: bottleneck blocks (ResNet-50) instead of basic ones.
      width: features of the first stage; 64 in the paper, less for a narrow network that a laptop can train.
      stem: "cifar" (3x3 convolution, stride 1) or "imagenet" (7x7, stride 2, then a 3x3 max-pool, stride 2).
      dtype: of the computation, say `jnp.bfloat16`; parameters, batch-norm statistics and features stay float32.
      zero_init_residual: start every residual branch at zero (torchvision's option of that name).

    >>> model = ResNet(stage_sizes=(1,), width=8, stem="cifar")
    >>> images = jnp.zeros((2, 32, 32, 3))
    >>> variables = jax.jit(model.init)(jax.random.key(0), images)
    >>> model.apply(variables, images).shape, model.num_features
    ((2, 8), 8)
    """

    stage_sizes: tuple[int, ...]
    bottleneck: bool = False
    width: int = 64
    stem: str = "cifar"
    dtype: Any = jnp.float32
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        if self.stem not in STEMS:
            raise ValueError(f"ResNet stem must be one of {STEMS}, got {self.stem!r}")
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise ValueError(f"ResNet needs at least one block in every stage, got stage_sizes {self.stage_sizes}")
        if self.width < 1:
            raise ValueError(f"ResNet width must be positive, got {self.width}")
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """The size w of the feature vectors: 512 for ResNet-18 and 34 of width 64, 2048 for ResNet-50."""
        return self.width * 2 ** (len(self.stage_sizes) - 1) * (4 if self.bottleneck else 1)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, num_views: int = 1) -> jax.Array:
        """Features of images.

        Args:
          images: [b * v, h, w, 3], normalised; the v views of an image in adjacent rows.
          train: batch statistics instead of running averages; apply with `mutable=["batch_stats"]`.
          num_views: v; each view has batch statistics of its own (see `BatchNorm`). `encode_views` sets it.

        Returns:
          [b * v, num_features] float32: the last stage's output, averaged over positions in float32.
        """
        x = images.astype(self.dtype)
        if self.stem == "imagenet":
            x = Conv(self.width, 7, 2, self.dtype, name="conv1")(x)
        else:
            x = Conv(self.width, 3, 1, self.dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(name="bn1")(x, train, num_views))
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = ResidualBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    bottleneck=self.bottleneck,
                    dtype=self.dtype,
                    zero_init_residual=self.zero_init_residual,
                    name=f"layer{stage + 1}_{index}",
                )(x, train, num_views)
        return x.astype(jnp.float32).mean((1, 2))


def resnet18(*, stem: str, width: int = 64, dtype: Any = jnp.float32, zero_init_residual: bool = False) -> ResNet:
    """ResNet-18: 11.2 million parameters at width 64. See `ResNet`."""
    return ResNet((2, 2, 2, 2), False, width, stem, dtype, zero_init_residual)


def resnet34(*, stem: str, width: int = 64, dtype: Any = jnp.float32, zero_init_residual: bool = False) -> ResNet:
    """ResNet-34: 21.3 million parameters at width 64. See `ResNet`."""
    return ResNet((3, 4, 6, 3), False, width, stem, dtype, zero_init_residual)


def resnet50(*, stem: str, width: int = 64, dtype: Any = jnp.float32, zero_init_residual: bool = False) -> ResNet:
    """ResNet-50 (bottleneck v1.5): 23.5 million parameters at width 64. See `ResNet`."""
    return ResNet((3, 4, 6, 3), True, width, stem, dtype, zero_init_residual)
