"""EquiMod: from the embedding of the plain image and the augmentation's parameters, predict that of the view."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from care_jax import losses
from care_jax.augment import (
    NUM_UNIFORMS,
    Augmentation,
    CloudAugmentation,
    CloudSpec,
    Drawn,
    Spec,
    box_fractions,
    sample,
    sample_cloud,
)
from care_jax.augment.clouds import NUM_CLOUD_UNIFORMS
from care_jax.augment.namespace import Array, namespace, to_float
from care_jax.methods.base import Outputs, Pieces, Term, Terms, Views
from care_jax.models import EquivariancePredictor, Networks, ProjectionHead, normalize
from care_jax.rules import POSITIVE, setting

EQUIMOD_SIZE = 15

# Of the standardisation: enough draws that its own error, 1 / sqrt(4096) of a standard deviation, doesn't matter.
_NUM_DRAWS = 4096
_NOMINAL_SIDE = 224


class EquiMod(Term):
    """NT-Xent whose positive pairs are a view's embedding and its prediction: the term `equimod`.

    A head of its own embeds the plain image, y_0, and each view, y_t; a predictor makes y^_t of y_0 and of t's
    parameters (`equimod_parameters`, standardised; of a cloud, which the original has not, its rotation's nine numbers
    and the logarithm of its factor). Of 2 v b vectors each has one positive and 2 v b - 2
    negatives; no gradient is stopped.

    Attributes:
      spec: the ranges that the views are drawn from; standardises the parameters.
      equivariance_head: from features to the embeddings that are predicted.
      batch_norm: whether the predictor has batch norm; the original does.

    Source: Devillers and Lefort, ICLR 2023; the official code's SimCLR+EquiMod.
    """

    name = "equimod"
    needs = ("plain", "drawn")
    spec: Spec
    equivariance_head: ProjectionHead
    batch_norm: bool
    temperature: float = setting(0.2, POSITIVE, "of its NT-Xent")

    @classmethod
    def make(cls, pieces: Pieces, **settings: Any) -> Self:
        head = pieces.head(output_batch_norm=pieces.batch_norm)
        return cls(spec=pieces.spec, equivariance_head=head, batch_norm=pieces.batch_norm, **settings)

    @property
    def projects(self) -> bool:
        return False

    @property
    def heads(self) -> Mapping[str, linen.Module]:
        head = self.equivariance_head
        predictor = EquivariancePredictor(head.size, batch_norm=self.batch_norm, dtype=head.dtype)
        return {"equivariance_head": head, "equivariance_predictor": predictor}

    def embed(self, networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        assert views.plain is not None and views.drawn is not None  # `needs` says so
        features = outputs["features"]
        height, width = views.image_size
        mean, std = equimod_standardisation(self.spec)
        parameters = drawn_parameters(views.drawn, height=height, width=width)[: len(features)]
        embedded = networks.through("equivariance_head", jnp.concatenate([networks.features(views.plain), features]))
        plain = jnp.broadcast_to(embedded[:1], embedded[1:].shape)
        predicted = networks.through("equivariance_predictor", plain, (parameters - mean) / std)
        return {"view_embeddings": embedded[1:], "predicted_embeddings": predicted}

    def loss(self, outputs: Outputs) -> Terms:
        size = outputs["view_embeddings"].shape[-1]
        pairs = (normalize(outputs[name]) for name in ("view_embeddings", "predicted_embeddings"))
        rows, predicted = (x.reshape(-1, size) for x in pairs)
        return {"equimod": losses.info_nce(rows, predicted, temperature=self.temperature)}


def unseen(spec: Spec) -> list[str]:
    """What a spec can draw that `drawn_parameters` says nothing of.

    >>> from care_jax.augment import AugmentSpec
    >>> unseen(AugmentSpec(size=8, hue=0.5, blur_probability=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)))
    ['blur']
    """
    if isinstance(spec, CloudSpec):
        drawn = {"jitter": spec.jitter, "dropping": spec.dropping}
    else:
        drawn = {
            "blur": spec.blur_probability,
            "solarize": spec.solarize_probability,
            "rotation": spec.rotation_degrees,
            "translation": spec.translation,
            "further operations": len(spec.operations),
        }
    return [name for name, amount in drawn.items() if amount]


def drawn_parameters(drawn: Drawn, *, height: int | Array, width: int | Array) -> Array:
    """`equimod_parameters`; of clouds [..., 10]."""
    if isinstance(drawn, CloudAugmentation):
        turned = drawn.rotation.reshape(*drawn.scale.shape, 9)
        return jnp.concatenate([turned, jnp.log(drawn.scale)[..., None]], axis=-1)
    return equimod_parameters(drawn, height=height, width=width)


def equimod_parameters(augmentation: Augmentation, *, height: int | Array, width: int | Array) -> Array:
    """EquiMod's vector: what was cropped, flipped, jittered (in which order, by how much) and made gray.

    The official code has the box in pixels; fractions of the sides are the same after standardisation where all images
    have one size, and mean the same where they don't.

    Args:
      augmentation: leading shape [...].
      height: of the input image, pixels: one number, or one a row [...].
      width: the same.

    Returns:
      [..., 15] float32: top, left, height, width, flipped, jittered, the operation in each of the four order slots (0
      brightness, 1 contrast, 2 saturation, 3 hue), brightness, contrast, saturation, hue, gray. Not standardised. Where
      the colours weren't jittered the slots are 0, 1, 2, 3, as in the official code: the order drawn had no effect.

    Example:
      >>> from care_jax.augment import AugmentSpec, identity
      >>> spec = AugmentSpec(size=8, center_fraction=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
      >>> equimod_parameters(identity(spec, height=8, width=8), height=8, width=8).tolist()
      [0.25, 0.25, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 0.0, 0.0]

    Source: Devillers and Lefort, EquiMod (ICLR 2023), and its code, `ParamRandomResizedCrop` and `ParamColorJitter`.
    """
    xp = namespace(*augmentation, height, width)
    top, left, box_height, box_width = box_fractions(augmentation, height=height, width=width)
    jittered = to_float(xp, augmentation.jittered)
    order = to_float(xp, augmentation.order)
    slots = [float(slot) + jittered * (order[..., slot] - float(slot)) for slot in range(4)]
    factors = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
    columns = (top, left, box_height, box_width, augmentation.flip, jittered, *slots, *factors, augmentation.grayscale)
    return xp.stack([to_float(xp, column) for column in columns], axis=-1)


@functools.lru_cache
def equimod_standardisation(spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of `equimod_parameters` over a fixed set of draws of the spec.

    Not an estimate that moves with training: a function of the spec alone, constant under `jax.jit` as well. The
    image is square; boxes in an oblong one have fractions of another mean, a third of a std off at 40 x 50.

    Args:
      spec: the ranges.

    Returns:
      mean [15] and std [15], or [10] of clouds, NumPy float32, over 4,096 draws for an image of 224 x 224
      pixels. The std of what never varies is 1. Don't write to them: they are cached.

    Example:
      >>> from care_jax.augment import AugmentSpec
      >>> spec = AugmentSpec(size=8, flip_probability=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
      >>> mean, std = equimod_standardisation(spec)
      >>> flipped, brightness = 4, 10
      >>> [round(float(x), 1) for x in (mean[flipped], std[flipped], mean[brightness], std[brightness])]
      [0.5, 0.5, 1.0, 1.0]

    Source: EquiMod standardises the vector before its linear layer.
    """
    side, of_clouds = _NOMINAL_SIDE, isinstance(spec, CloudSpec)
    count = NUM_CLOUD_UNIFORMS if of_clouds else NUM_UNIFORMS
    uniforms = np.random.default_rng(0).random((_NUM_DRAWS, count), np.float32)

    @jax.jit
    def draw(uniforms: jax.Array) -> jax.Array:
        if isinstance(spec, CloudSpec):
            return drawn_parameters(sample_cloud(uniforms, spec), height=side, width=side)
        images = dataclasses.replace(spec, operations=())  # of which the vector says nothing
        return drawn_parameters(sample(uniforms, images, height=side, width=side), height=side, width=side)

    # Wherever it is first asked for: while a step is traced, or under a guard against accidental transfers.
    with jax.ensure_compile_time_eval(), jax.transfer_guard("allow"):
        parameters = np.asarray(draw(uniforms), np.float64)
    # Not std == 0: the mean of equal numbers may be off by a rounding error, and the std with it.
    std = np.where(np.ptp(parameters, axis=0) == 0, 1.0, parameters.std(0))
    mean, std = parameters.mean(0).astype(np.float32), std.astype(np.float32)
    mean.setflags(write=False)
    std.setflags(write=False)
    return mean, std
