"""The numbers that rival methods tell the network about an augmentation, each a pure function of an `Augmentation`.

EquiMod conditions a predictor on them, AugSelf regresses the difference of two views'. CARE needs none of this.
"""

import functools

import jax
import numpy as np

from care_jax.augment.augmentation import Augmentation, AugmentSpec
from care_jax.augment.namespace import Array, namespace, to_float
from care_jax.augment.sample import NUM_UNIFORMS, sample

EQUIMOD_SIZE = 15

# Of the standardisation: enough draws that its own error, 1 / sqrt(4096) of a standard deviation, doesn't matter.
_NUM_DRAWS = 4096
_NOMINAL_SIDE = 224


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
      >>> from care_jax.augment import identity
      >>> spec = AugmentSpec(size=8, center_fraction=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
      >>> equimod_parameters(identity(spec, height=8, width=8), height=8, width=8).tolist()
      [0.25, 0.25, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 0.0, 0.0]

    Source: Devillers and Lefort, EquiMod (ICLR 2023), and its code, `ParamRandomResizedCrop` and `ParamColorJitter`.
    """
    xp = namespace(*augmentation, height, width)
    top, left, box_height, box_width = _box(augmentation, height, width)
    jittered = to_float(xp, augmentation.jittered)
    order = to_float(xp, augmentation.order)
    slots = [float(slot) + jittered * (order[..., slot] - float(slot)) for slot in range(4)]
    factors = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
    columns = (top, left, box_height, box_width, augmentation.flip, jittered, *slots, *factors, augmentation.grayscale)
    return xp.stack([to_float(xp, column) for column in columns], axis=-1)


@functools.lru_cache
def equimod_standardisation(spec: AugmentSpec) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of `equimod_parameters` over a fixed set of draws of the spec.

    Not an estimate that moves with training: a function of the spec alone, constant under `jax.jit` as well. The
    image is square; boxes in an oblong one have fractions of another mean, a third of a std off at 40 x 50.

    Args:
      spec: the ranges.

    Returns:
      mean [15] and std [15], NumPy float32, over 4,096 draws for an image of 224 x 224 pixels. The std of what never
      varies is 1. Don't write to them: they are cached.

    Example:
      >>> spec = AugmentSpec(size=8, flip_probability=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
      >>> mean, std = equimod_standardisation(spec)
      >>> flipped, brightness = 4, 10
      >>> [round(float(x), 1) for x in (mean[flipped], std[flipped], mean[brightness], std[brightness])]
      [0.5, 0.5, 1.0, 1.0]

    Source: EquiMod standardises the vector before its linear layer.
    """
    uniforms = np.random.default_rng(0).random((_NUM_DRAWS, NUM_UNIFORMS), np.float32)
    side = _NOMINAL_SIDE

    @jax.jit
    def draw(uniforms: jax.Array) -> jax.Array:
        return equimod_parameters(sample(uniforms, spec, height=side, width=side), height=side, width=side)

    # Wherever it is first asked for: while a step is traced, or under a guard against accidental transfers.
    with jax.ensure_compile_time_eval(), jax.transfer_guard("allow"):
        parameters = np.asarray(draw(uniforms), np.float64)
    # Not std == 0: the mean of equal numbers may be off by a rounding error, and the std with it.
    std = np.where(np.ptp(parameters, axis=0) == 0, 1.0, parameters.std(0))
    mean, std = parameters.mean(0).astype(np.float32), std.astype(np.float32)
    mean.setflags(write=False)
    std.setflags(write=False)
    return mean, std


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
    top, left, box_height, box_width = _box(augmentation, height, width)
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


def _box(augmentation: Augmentation, height: int | Array, width: int | Array) -> tuple[Array, Array, Array, Array]:
    """Top, left, height and width as fractions of the image's sides."""
    xp = namespace(*augmentation, height, width)
    height, width = to_float(xp, height), to_float(xp, width)
    top, left, box_height, box_width = (to_float(xp, x) for x in augmentation[:4])
    return top / height, left / width, box_height / height, box_width / width
