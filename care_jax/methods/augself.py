"""AugSelf: from the features of two views, tell how their augmentations differ."""

from typing import Any

import jax.numpy as jnp

from care_jax import augment
from care_jax.augment import AugmentSpec
from care_jax.methods.base import Outputs, Term, Terms, Views
from care_jax.models import Networks, ProjectionHead


def augself(*, spec: AugmentSpec, hidden_sizes: tuple[int, ...], batch_norm: bool, dtype: Any = jnp.float32) -> Term:
    """Squared error of the predicted differences of the crops and of the colours: the terms `crop` and `color`.

    Of the concatenated features of both views, in both orders, a head for each kind predicts the difference of
    `augment.augself_crop` or `augment.augself_color`, through a tanh.

    Args:
      spec: the ranges that the views are drawn from; scales the colours.
      hidden_sizes: of the heads; (512, 512) in the original.
      batch_norm: whether they have batch norm; the original does.
      dtype: of their computation.

    Source: Lee et al., NeurIPS 2021; the official code's crop and colour losses, both with the weight lambda.
    """
    heads = {f"{kind}_predictor": ProjectionHead(hidden_sizes, 4, batch_norm, dtype) for kind in ("crop", "color")}

    def embed(networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        assert views.drawn is not None  # `needs` says so
        height, width = views.image_size
        color = augment.augself_color(views.drawn, spec)
        boxes = augment.augself_crop(views.drawn, height=height, width=width)
        # As in the official code: the first view of a pair says whether both boxes are mirrored, and differences are in
        # [-1, 1], a tanh's range.
        others = views.drawn._replace(flip=views.drawn.flip[::-1])
        mirrored = augment.augself_crop(others, height=height, width=width)
        differences = {"crop": boxes - mirrored[::-1], "color": (color - color[::-1]) / 2}
        features = outputs["features"]
        pairs = jnp.concatenate([features, features[::-1]], axis=-1)
        found = {}
        for kind, difference in differences.items():
            found[f"{kind}_predictions"] = jnp.tanh(networks.apply(f"{kind}_predictor", pairs))
            found[f"{kind}_differences"] = difference
        return found

    def loss(outputs: Outputs) -> Terms:
        return {
            kind: jnp.mean((outputs[f"{kind}_predictions"] - outputs[f"{kind}_differences"]) ** 2)
            for kind in ("crop", "color")
        }

    return Term("augself", loss, embed, heads, needs=("drawn",), num_views=2)
