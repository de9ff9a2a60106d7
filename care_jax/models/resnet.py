"""ResNets equal to torchvision's, NHWC, without the classifier.

He et al., "Deep Residual Learning for Image Recognition", 2016; the bottleneck is torchvision's (v1.5: the stride sits
on the 3x3 convolution). The names of modules follow torchvision's, so that weights travel both ways (torch_weights.py).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.losses.arrays import wide
from care_jax.models.batch_norm import BatchNorm
from care_jax.models.convolution import convolve
from care_jax.models.pooling import max_pool

# torchvision's initialisation: kaiming_normal_(mode="fan_out", nonlinearity="relu"), not truncated.
_kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

STEMS = ("cifar", "imagenet")


class Conv(nn.Module):
    """A square convolution without bias, padded as in torch; parameter `kernel` [size, size, in, out]."""

    features: int
    size: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, in] -> [b, h', w', features] in `dtype`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", _kaiming_normal, shape, wide(self.dtype))
        return convolve(x.astype(self.dtype), kernel, self.stride)


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
      dtype: of the computation, say `jnp.bfloat16`; parameters, statistics and features are float32 at least.
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
          [b * v, num_features], float32 at least: the last stage's output, averaged over positions.

        Raises:
          ValueError: images of integers, which are not normalised.
        """
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"ResNet images must be normalised floats, got {images.dtype}")
        x = images.astype(self.dtype)
        if self.stem == "imagenet":
            x = Conv(self.width, 7, 2, self.dtype, name="conv1")(x)
        else:
            x = Conv(self.width, 3, 1, self.dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(name="bn1")(x, train, num_views))
        if self.stem == "imagenet":
            x = max_pool(x)
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
        return x.astype(wide(self.dtype)).mean((1, 2))


def resnet18(*, stem: str, width: int = 64, dtype: Any = jnp.float32, zero_init_residual: bool = False) -> ResNet:
    """ResNet-18: 11.2 million parameters at width 64. See `ResNet`."""
    return ResNet((2, 2, 2, 2), False, width, stem, dtype, zero_init_residual)


def resnet34(*, stem: str, width: int = 64, dtype: Any = jnp.float32, zero_init_residual: bool = False) -> ResNet:
    """ResNet-34: 21.3 million parameters at width 64. See `ResNet`."""
    return ResNet((3, 4, 6, 3), False, width, stem, dtype, zero_init_residual)


def resnet50(*, stem: str, width: int = 64, dtype: Any = jnp.float32, zero_init_residual: bool = False) -> ResNet:
    """ResNet-50 (bottleneck v1.5): 23.5 million parameters at width 64. See `ResNet`."""
    return ResNet((3, 4, 6, 3), True, width, stem, dtype, zero_init_residual)
