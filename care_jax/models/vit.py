"""Vision Transformers, without the classifier.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), with the sizes and the initialisation of timm and DeiT.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.losses.arrays import wide

PATCH_SIZES = {"cifar": 4, "imagenet": 16}

_normal = nn.initializers.normal(0.02)
# torch's, which timm leaves to the patch embedding: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_EPSILON = 1e-6


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), the MLP four times as wide inside."""

    num_heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, n, d] -> [b, n, d] in `dtype`."""
        size, types = x.shape[-1], {"dtype": self.dtype, "param_dtype": wide(self.dtype)}
        y = nn.LayerNorm(epsilon=_EPSILON, **types, name="ln1")(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.num_heads,
            **types,
            kernel_init=_normal,
            force_fp32_for_softmax=wide(self.dtype) == jnp.float32,
            name="attention",
        )(y)
        y = nn.LayerNorm(epsilon=_EPSILON, **types, name="ln2")(x)
        y = nn.Dense(4 * size, **types, kernel_init=_normal, name="linear1")(y)
        y = nn.gelu(y, approximate=False)
        return x + nn.Dense(size, **types, kernel_init=_normal, name="linear2")(y)


class VisionTransformer(nn.Module):
    """A pre-norm transformer over the patches of an image; the features are those of the class token.

    Position embeddings are learned, one a patch of the images that initialise the module. Images of another size get
    them interpolated bilinearly (smoothed where there are fewer patches), so one module serves several sizes.

    Attributes:
      depth: blocks.
      num_heads: of each block's attention.
      width: channels of one head; 64 in the paper, less for a narrow network that a laptop can train.
      patch_size: side of a patch, pixels.
      dtype: of the computation, say `jnp.bfloat16`; parameters, softmax and features are float32 at least.

    Example:
      >>> model = VisionTransformer(depth=1, num_heads=2, width=4, patch_size=4)
      >>> images = jnp.zeros((2, 8, 8, 3))
      >>> features, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
      >>> features.shape, model.num_features
      ((2, 8), 8)
    """

    depth: int
    num_heads: int
    width: int = 64
    patch_size: int = 16
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        for name in ("depth", "num_heads", "width", "patch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"VisionTransformer {name} must be positive, got {getattr(self, name)}")
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """The size w of the feature vectors: 384 for ViT-S and 768 for ViT-B of width 64."""
        return self.num_heads * self.width

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, num_views: int = 1) -> jax.Array:
        """Features of images.

        Args:
          images: [b * v, h, w, 3], normalised.
          train: ignored: there is neither dropout nor a batch statistic.
          num_views: ignored likewise.

        Returns:
          [b * v, num_features], float32 at least.

        Raises:
          ValueError: the patch size doesn't divide the image's sides; images of integers, which are not normalised.
        """
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"VisionTransformer images must be normalised floats, got {images.dtype}")
        if images.ndim != 4 or images.shape[1] % self.patch_size or images.shape[2] % self.patch_size:
            raise ValueError(
                f"VisionTransformer images must be [b, h, w, 3] with sides that patch_size {self.patch_size} divides, "
                f"got shape {images.shape}"
            )
        size = self.num_features
        x = nn.Conv(
            size,
            (self.patch_size, self.patch_size),
            strides=self.patch_size,
            padding="VALID",
            dtype=self.dtype,
            param_dtype=wide(self.dtype),
            kernel_init=_uniform,
            name="patch_embedding",
        )(images)
        b, rows, columns, _ = x.shape
        x = x + self._position_embedding(rows, columns).astype(self.dtype)
        # The class token has a position as the patches do. The sum is one vector; timm and the paper count two.
        token = self.param("class_token", nn.initializers.zeros_init(), (size,), wide(self.dtype))
        token = token + self.param("class_position", _normal, (size,), wide(self.dtype))
        token = jnp.broadcast_to(token.astype(self.dtype), (b, 1, size))
        x = jnp.concatenate([token, x.reshape(b, rows * columns, size)], axis=1)
        for i in range(self.depth):
            x = TransformerBlock(self.num_heads, self.dtype, name=f"block{i}")(x)
        dtype = wide(self.dtype)
        return nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, param_dtype=dtype, name="ln")(x[:, 0])

    def _position_embedding(self, rows: int, columns: int) -> jax.Array:
        """[rows, columns, num_features]; the parameter has the grid of the images at initialisation."""
        shape = (rows, columns, self.num_features)
        if not self.has_variable("params", "position_embedding"):
            return self.param("position_embedding", _normal, shape, wide(self.dtype))
        # Not `self.param`: that refuses a parameter of another shape.
        embedding: jax.Array = self.get_variable("params", "position_embedding")
        return embedding if embedding.shape == shape else jax.image.resize(embedding, shape, "bilinear")


def vit_small(*, stem: str, width: int = 64, dtype: Any = jnp.float32) -> VisionTransformer:
    """ViT-S, 21.7 million parameters: patches of 4 ("cifar") or 16 ("imagenet") pixels. See `VisionTransformer`."""
    return VisionTransformer(12, 6, width, _patch_size(stem), dtype)


def vit_base(*, stem: str, width: int = 64, dtype: Any = jnp.float32) -> VisionTransformer:
    """ViT-B, 85.8 million parameters: patches of 4 ("cifar") or 16 ("imagenet") pixels. See `VisionTransformer`."""
    return VisionTransformer(12, 12, width, _patch_size(stem), dtype)


def _patch_size(stem: str) -> int:
    if stem not in PATCH_SIZES:
        raise ValueError(f"VisionTransformer stem must be one of {tuple(PATCH_SIZES)}, got {stem!r}")
    return PATCH_SIZES[stem]
