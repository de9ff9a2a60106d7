"""The encoder f: a backbone, a projection head and the unit sphere."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.losses.arrays import normalize

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
          features [b * v, w] float32 and embeddings [b * v, d] float32, rows of norm 1.
        """
        features = self.backbone(images, train, num_views)
        return features, normalize(self.head(features, train, num_views).astype(jnp.float32))


def encode_views(
    encoder: nn.Module, variables: Variables, views: jax.Array, *, remat: bool = False
) -> tuple[Any, Variables]:
    """Encodes several views of a batch in training mode, in one pass.

    Equal to v forward passes, one after the other: every view is normalised by its own batch statistics, and the
    running averages take them in in the order of the views. The parameters are used once, not copied for each view.

    The views of an image become neighbouring rows of one batch [b * v], so a batch sharded over devices stays sharded.
    (`jax.vmap` over the view axis computes the same, but puts the view axis outermost in that batch, which no sharding
    of b can express: XLA then gathers the images and computes everything on every device.)

    Args:
      encoder: a module called as `encoder(images, train, num_views)`, such as an `Encoder` or a `ResNet`.
      variables: {"params": ..., "batch_stats": ...}; `batch_stats` may be absent.
      views: [v, b, h, w, 3].
      remat: compute the views one at a time and again in the backward pass: about one v-th of the activation memory,
        for one more forward pass.

    Returns:
      The encoder's outputs with a leading view axis (features [v, b, w], embeddings [v, b, d]), and the new
      `batch_stats`.
    """
    num_views = len(views)
    params = {name: value for name, value in variables.items() if name != "batch_stats"}
    batch_stats = variables.get("batch_stats", {})

    def forward(params: Variables, batch_stats: Variables, images: jax.Array, num_views: int) -> tuple[Any, Variables]:
        outputs, updates = encoder.apply(
            {**params, "batch_stats": batch_stats}, images, True, num_views, mutable=["batch_stats"]
        )
        return outputs, updates.get("batch_stats", {})

    if remat:

        @jax.checkpoint
        def step(batch_stats: Variables, images: jax.Array) -> tuple[Variables, Any]:
            outputs, batch_stats = forward(params, batch_stats, images, 1)
            return batch_stats, outputs

        batch_stats, outputs = jax.lax.scan(step, batch_stats, views)
        return outputs, batch_stats

    outputs, batch_stats = forward(params, batch_stats, to_rows(views), num_views)
    return jax.tree.map(lambda x: to_views(x, num_views), outputs), batch_stats


def to_rows(views: jax.Array) -> jax.Array:
    """[v, b, ...] -> [b * v, ...], the v views of an image in adjacent rows."""
    return jnp.swapaxes(views, 0, 1).reshape(views.shape[0] * views.shape[1], *views.shape[2:])


def to_views(rows: jax.Array, num_views: int) -> jax.Array:
    """[b * v, ...] -> [v, b, ...]: the way back."""
    return jnp.swapaxes(rows.reshape(rows.shape[0] // num_views, num_views, *rows.shape[1:]), 0, 1)
