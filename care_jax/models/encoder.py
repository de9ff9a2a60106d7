"""The encoder f: a backbone, a projection head and the unit sphere."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.losses.arrays import normalize, wide

Variables = Mapping[str, Any]


class Encoder(nn.Module):
    """Images to features and to embeddings on the unit sphere in R^d (f = normalise . head . backbone).

    Attributes:
      backbone: images [b, h, w, 3] -> features [b, w], say a `ResNet`.
      head: features [b, w] -> [b, d], say a `ProjectionHead`.

    >>> from care_jax.models.heads import ProjectionHead
    >>> from care_jax.models.resnet import ResNet
    >>> encoder = Encoder(ResNet((1,), width=4), ProjectionHead((8,), 2))
    >>> images = jnp.ones((3, 8, 8, 3))
    >>> variables = jax.jit(encoder.init)(jax.random.key(0), images)
    >>> features, embeddings = encoder.apply(variables, images)
    >>> features.shape, embeddings.shape
    ((3, 4), (3, 2))
    """

    backbone: nn.Module
    head: nn.Module

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, num_views: int = 1) -> tuple[jax.Array, jax.Array]:
        """Features and embeddings.

        Args:
          images: [b * v, h, w, 3], normalised; the v views of an image in adjacent rows.
          train: batch statistics instead of running averages; apply with `mutable=["batch_stats"]`.
          num_views: v; each view has batch statistics of its own. `encode_views` sets it.

        Returns:
          features [b * v, w] and embeddings [b * v, d], rows of norm 1: float32, or float64 where that is computed in.
        """
        features = self.backbone(images, train, num_views)
        projections = self.head(features, train, num_views)
        embeddings = normalize(projections.astype(wide(projections.dtype)))
        return features.astype(wide(features.dtype)), embeddings


def encode_views(module: nn.Module, *inputs: jax.Array, train: bool = True, remat: bool = False) -> Any:
    """Applies a bound module to several views of a batch in one pass.

    Equal to v forward passes, one after the other: every view is normalised by its own batch statistics, and the
    running averages take them in in the order of the views. The parameters are used once, not copied for each view.

    The views of an image become neighbouring rows of one batch [b * v], so a batch sharded over devices stays sharded.
    (`jax.vmap` over the view axis computes the same, but puts the view axis outermost in that batch, which no sharding
    of b can express: XLA then gathers the images and computes everything on every device.)

    Args:
      module: called as `module(*inputs, train, num_views)`, such as an `Encoder`, a `ResNet` or a head.
      *inputs: each [v, b, ...], images say.
      train: normalise by batch statistics; False: by running averages, which stay as they are.
      remat: in training compute the views one at a time and again in the backward pass: about one v-th of the
        activation memory, for one more forward pass.

    Returns:
      The module's outputs with a leading view axis (features [v, b, w], embeddings [v, b, d]).

    >>> from care_jax.models.heads import ProjectionHead
    >>> head, views = ProjectionHead((8,), 2), jnp.ones((3, 4, 5))
    >>> variables = jax.jit(head.init)(jax.random.key(0), views[0])
    >>> outputs, updates = head.apply(variables, views, method=encode_views, mutable=["batch_stats"])
    >>> outputs.shape, list(updates)
    ((3, 4, 2), ['batch_stats'])
    """
    num_views = len(inputs[0])
    if train and remat:
        scanned = nn.scan(
            nn.remat(lambda module, carry, *images: (carry, module(*images, True, 1))),
            variable_broadcast="params",
            variable_carry="batch_stats",
        )
        return scanned(module, (), *inputs)[1]
    outputs = module(*map(to_rows, inputs), train, num_views)
    return jax.tree.map(lambda x: to_views(x, num_views), outputs)


def to_rows(views: jax.Array) -> jax.Array:
    """[v, b, ...] -> [b * v, ...], the v views of an image in adjacent rows."""
    return jnp.swapaxes(views, 0, 1).reshape(views.shape[0] * views.shape[1], *views.shape[2:])


def to_views(rows: jax.Array, num_views: int) -> jax.Array:
    """[b * v, ...] -> [v, b, ...]: the way back."""
    return jnp.swapaxes(rows.reshape(rows.shape[0] // num_views, num_views, *rows.shape[1:]), 0, 1)
