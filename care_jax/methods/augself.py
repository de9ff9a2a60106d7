"""AugSelf: from the features of two views, tell how their augmentations differ."""

from collections.abc import Mapping
from typing import Any, Self

import jax.numpy as jnp
from flax import linen

from care_jax.augment import Augmentation, AugmentSpec, box_fractions, image_spec
from care_jax.augment.namespace import Array, namespace, to_float
from care_jax.methods.base import Outputs, Pieces, Term, Terms, Views
from care_jax.models import Networks, ProjectionHead
from care_jax.rules import at_least, setting

KINDS = ("crop", "color")


class AugSelf(Term):
    """Squared error of the predicted differences of the crops and of the colours: the terms `crop` and `color`.

    Of the concatenated features of both views, in both orders, a head for each kind predicts the difference of
    `augself_crop` or `augself_color`, through a tanh.

    Attributes:
      spec: the ranges that the views are drawn from; scales the colours.
      batch_norm: whether its heads have batch norm; the original's do.
      dtype: of their computation.

    Source: Lee et al., NeurIPS 2021; the official code's crop and colour losses, both with the weight lambda.
    """

    name = "augself"
    needs = ("drawn",)
    only_images = "tells crops and colours"
    num_views = 2
    spec: AugmentSpec
    batch_norm: bool
    dtype: Any = jnp.float32
    hidden_size: int = setting(512, at_least(1), "units of each of the two hidden layers of each of its heads")

    @classmethod
    def make(cls, pieces: Pieces, **settings: Any) -> Self:
        return cls(
            spec=image_spec(pieces.spec),
            batch_norm=pieces.batch_norm,
            dtype=pieces.dtype,
            **settings,
        )

    @property
    def projects(self) -> bool:
        return False

    @property
    def heads(self) -> Mapping[str, linen.Module]:
        head = ProjectionHead((self.hidden_size,) * 2, 4, self.batch_norm, self.dtype)
        return {f"{kind}_predictor": head for kind in KINDS}

    def embed(self, networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        assert isinstance(views.drawn, Augmentation)  # `needs` says so
        height, width = views.image_size
        color = augself_color(views.drawn, self.spec)
        boxes = augself_crop(views.drawn, height=height, width=width)
        # As in the official code: the first view of a pair says whether both boxes are mirrored, and differences are in
        # [-1, 1], a tanh's range.
        others = views.drawn._replace(flip=views.drawn.flip[::-1])
        mirrored = augself_crop(others, height=height, width=width)
        differences = {"crop": boxes - mirrored[::-1], "color": (color - color[::-1]) / 2}
        features = outputs["features"]
        pairs = jnp.concatenate([features, features[::-1]], axis=-1)
        found = {}
        for kind, difference in differences.items():
            found[f"{kind}_predictions"] = jnp.tanh(networks.through(f"{kind}_predictor", pairs))
            found[f"{kind}_differences"] = difference
        return found

    def loss(self, outputs: Outputs) -> Terms:
        return {
            kind: jnp.mean((outputs[f"{kind}_predictions"] - outputs[f"{kind}_differences"]) ** 2) for kind in KINDS
        }


def augself_crop(augmentation: Augmentation, *, height: int | Array, width: int | Array) -> Array:
    """AugSelf's description of the crop, centre and size; its target is the difference of two views'.

    The official code mirrors both centres by the first view's flip, so that the target is where the second box lies as
    seen in the first view. For that, pass the second augmentation as `second._replace(flip=first.flip)`.

    Args:
      augmentation: leading shape [...].
      height: of the input image, pixels: one number, or one a row [...].
      width: the same.

    Returns:
      [..., 4] float32, fractions of the image's sides: y and x of the centre, height, width. Where the view is flipped,
      x is that of the mirrored image, 1 - x.

    Example:
      >>> from care_jax.augment import identity
      >>> spec = AugmentSpec(size=8, center_fraction=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
      >>> view = identity(spec, height=8, width=8)
      >>> augself_crop(view._replace(left=0.0), height=8, width=8).tolist()
      [0.5, 0.25, 0.5, 0.5]
      >>> augself_crop(view._replace(left=0.0, flip=1.0), height=8, width=8).tolist()
      [0.5, 0.75, 0.5, 0.5]

    Source: Lee et al., AugSelf (NeurIPS 2021), section 3.2, and `extract_diff` of its code.
    """
    xp = namespace(*augmentation, height, width)
    top, left, box_height, box_width = box_fractions(augmentation, height=height, width=width)
    flip = to_float(xp, augmentation.flip)
    y, x = top + box_height / 2.0, left + box_width / 2.0
    return xp.stack([y, x + flip * (1.0 - 2.0 * x), box_height, box_width], axis=-1)


def augself_color(augmentation: Augmentation, spec: AugmentSpec) -> Array:
    """AugSelf's description of the colour jitter; its target is the difference of two views'.

        ((brightness - 1) / r_b, (contrast - 1) / r_c, (saturation - 1) / r_s, hue / r_h),  r the spec's strengths.

    The official code divides by the width of the range drawn from, 2 r (for r at most 1), so that a difference is in
    [-1, 1], the range of its tanh. Half the difference of two of these is that target.

    Args:
      augmentation: leading shape [...].
      spec: the ranges it was drawn from.

    Returns:
      [..., 4] float32 in [-1, 1]; exactly 0 where the colours weren't jittered, and for what has no range.

    Example:
      >>> from care_jax.augment import identity
      >>> spec = AugmentSpec(size=8, brightness=0.5, hue=0.25, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
      >>> view = identity(spec, height=8, width=8)._replace(jittered=1.0, brightness=1.25, hue=-0.25)
      >>> augself_color(view, spec).tolist()
      [0.5, 0.0, 0.0, -1.0]

    Source: Lee et al., AugSelf (NeurIPS 2021), section 3.2, and `_extract_w` of its code.
    """
    xp = namespace(*augmentation)
    columns = []
    for name, neutral in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.0)):
        strength = getattr(spec, name)
        excess = to_float(xp, getattr(augmentation, name)) - neutral
        columns.append(excess / strength if strength > 0 else xp.zeros_like(excess))
    return xp.stack(columns, axis=-1)
