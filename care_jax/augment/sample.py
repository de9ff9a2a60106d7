"""Uniform numbers in [0, 1) -> an `Augmentation`. No keys: whoever holds the uniforms decides who shares them."""

import itertools
import math
import zlib
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from care_jax.augment.augmentation import Augmentation, AugmentSpec
from care_jax.augment.clouds import NUM_CLOUD_UNIFORMS, CloudSpec
from care_jax.augment.namespace import Array, namespace, round_half_to_even, to_float

CROP_TRIES = 10

# How a row of uniforms is spent. The order is part of what (seed, step) means: new draws go to the end.
_ONCE = (
    *("top", "left", "flip", "jittered", "order", "brightness", "contrast", "saturation", "hue"),
    *("grayscale", "blurred", "blur_sigma", "solarize", "angle", "shift_y", "shift_x"),
)
SLOTS = {
    "area": slice(0, CROP_TRIES),
    "ratio": slice(CROP_TRIES, 2 * CROP_TRIES),
    **{name: slice(i, i + 1) for i, name in enumerate(_ONCE, start=2 * CROP_TRIES)},
}
NUM_UNIFORMS = 2 * CROP_TRIES + len(_ONCE)

_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
_ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)


Box = tuple[Array, Array, Array, Array]  # top, left, height and width, pixels


def sample(uniforms: Array, spec: AugmentSpec, *, height: int | Array, width: int | Array) -> Augmentation:
    """Turns rows of uniform numbers into augmentations.

    Args:
      uniforms: [..., K] in [0, 1), float32; K is NUM_UNIFORMS, and more with further operations: `draw_uniforms`.
      spec: the ranges.
      height: of the input image, pixels: one number, or one a row [...].
      width: the same.

    Returns:
      An `Augmentation` of leading shape [...]. JAX and TensorFlow differ in the last bit of an exponential: about one
      box of a photograph in 80,000, of a 32x32 image in 700,000, is a pixel larger in one of them.

    Raises:
      ValueError: the last axis of `uniforms` is not K.
    """
    return sample_given_box(uniforms, spec, sample_box(uniforms, spec, height=height, width=width))


def sample_box(uniforms: Array, spec: AugmentSpec, *, height: int | Array, width: int | Array) -> Box:
    """The box alone, all that depends on the size of the image; arguments and errors as those of `sample`.

    Returns:
      Top, left, height and width, each [...], whole pixels as float32.
    """
    xp, uniforms = _checked(uniforms, spec, height, width)
    zeros = xp.zeros_like(uniforms[..., 0])
    height, width = to_float(xp, height) + zeros, to_float(xp, width) + zeros
    if spec.crop == "center":
        return _central_box(xp, spec.center_fraction, height, width)
    return _random_box(xp, uniforms, spec, height, width)


def sample_given_box(uniforms: Array, spec: AugmentSpec, box: Box) -> Augmentation:
    """The rest of `sample`, for a box that has been drawn before and may lie elsewhere since: cut out of a canvas, say.

    Args:
      uniforms: as for `sample`.
      spec: as for `sample`.
      box: top, left, height and width, each [...], pixels.
    """
    xp, uniforms = _checked(uniforms, spec, *box)

    def drawn(name: str) -> Array:
        return uniforms[..., SLOTS[name].start]

    def happens(name: str, probability: float) -> Array:
        return to_float(xp, drawn(name) < probability)

    def between(name: str, low: float, high: float) -> Array:
        return low + (high - low) * drawn(name)

    def factor(name: str, strength: float) -> Array:
        return 1.0 + jittered * (between(name, max(0.0, 1.0 - strength), 1.0 + strength) - 1.0)

    jittered = happens("jittered", spec.jitter_probability)
    order = xp.asarray(xp.floor(drawn("order") * float(len(_ORDERS))), dtype=np.int32)
    angle = math.radians(spec.rotation_degrees)
    top, left, height, width = (to_float(xp, x) for x in box)
    return Augmentation(
        top=top,
        left=left,
        height=height,
        width=width,
        flip=happens("flip", spec.flip_probability),
        jittered=jittered,
        order=xp.take(xp.asarray(_ORDERS), order, axis=0),
        brightness=factor("brightness", spec.brightness),
        contrast=factor("contrast", spec.contrast),
        saturation=factor("saturation", spec.saturation),
        hue=jittered * between("hue", -spec.hue, spec.hue),
        grayscale=happens("grayscale", spec.grayscale_probability),
        blur_sigma=happens("blurred", spec.blur_probability) * between("blur_sigma", *spec.blur_sigma),
        solarize=happens("solarize", spec.solarize_probability),
        angle=between("angle", -angle, angle),
        shift_y=between("shift_y", -spec.translation, spec.translation),
        shift_x=between("shift_x", -spec.translation, spec.translation),
        further=_draw_further(xp, uniforms[..., NUM_UNIFORMS:], spec),
    )


def num_uniforms(spec: AugmentSpec) -> int:
    """K, numbers in [0, 1) behind one draw: NUM_UNIFORMS, and what further operations take."""
    return NUM_UNIFORMS + sum(operation.size for operation in spec.operations)


def draw_uniforms(key: jax.Array, shape: tuple[int, ...], spec: AugmentSpec | CloudSpec) -> jax.Array:
    """Rows for `sample`, or for `sample_cloud`.

    Args:
      key: of the draw. What further operations add at the end of a row changes none of the numbers before.
      shape: [...] of the rows.
      spec: the ranges.

    Returns:
      [..., K] float32 in [0, 1).
    """
    if isinstance(spec, CloudSpec):
        return jax.random.uniform(key, (*shape, NUM_CLOUD_UNIFORMS), jnp.float32)
    rows = [jax.random.uniform(key, (*shape, NUM_UNIFORMS), jnp.float32)]
    for operation in spec.operations:
        own = jax.random.fold_in(key, zlib.crc32(operation.name.encode()))
        rows.append(jax.random.uniform(own, (*shape, operation.size), jnp.float32))
    return jnp.concatenate(rows, axis=-1) if len(rows) > 1 else rows[0]


def _draw_further(xp: ModuleType, uniforms: Array, spec: AugmentSpec) -> Array:
    """[..., k] of all further operations, of rows [..., k] of uniforms."""
    if not spec.operations:
        return uniforms
    drawn, start = [], 0
    for operation in spec.operations:
        drawn.append(to_float(xp, operation.draw(uniforms[..., start : start + operation.size])))
        start += operation.size
    return xp.concatenate(drawn, axis=-1)


def _checked(uniforms: Array, spec: AugmentSpec, *others: Array) -> tuple[ModuleType, Array]:
    """The namespace, and the uniforms as float32 below 1."""
    if uniforms.shape[-1] != num_uniforms(spec):
        raise ValueError(f"uniforms must be [..., {num_uniforms(spec)}]; got shape {tuple(uniforms.shape)}")
    xp = namespace(uniforms, *others)
    # A float64 just below 1 would round to 1.
    return xp, xp.minimum(to_float(xp, uniforms), to_float(xp, _BELOW_ONE))


def identity(
    spec: AugmentSpec, *, height: int | Array, width: int | Array, leading_shape: tuple[int, ...] = ()
) -> Augmentation:
    """The evaluation transform: the central crop of `spec.center_fraction`, and nothing else.

    Args:
      spec: gives the fraction; its `crop` and its ranges are ignored.
      height: of the input image, pixels: one number, or an array that broadcasts to the leading shape.
      width: the same.
      leading_shape: of the result; () is one augmentation shared by all images.

    Returns:
      An `Augmentation` of the leading shape.
    """
    xp = namespace(height, width)
    zeros = xp.zeros(leading_shape, dtype=np.float32)
    box = _central_box(xp, spec.center_fraction, to_float(xp, height) + zeros, to_float(xp, width) + zeros)
    zeros = xp.zeros_like(box[0])
    ones = xp.ones_like(zeros)
    order = xp.asarray(zeros[..., None] + to_float(xp, np.arange(4)), dtype=np.int32)
    return Augmentation(
        *box,
        flip=zeros,
        jittered=zeros,
        order=order,
        brightness=ones,
        contrast=ones,
        saturation=ones,
        hue=zeros,
        grayscale=zeros,
        blur_sigma=zeros,
        solarize=zeros,
        angle=zeros,
        shift_y=zeros,
        shift_x=zeros,
        further=to_float(xp, order[..., :0]),
    )


def _central_box(xp: ModuleType, fraction: float, height: Array, width: Array) -> Box:
    """The central square in whole pixels, so that a JPEG decoder can be asked for exactly this box."""
    side = xp.maximum(round_half_to_even(xp, fraction * xp.minimum(height, width)), xp.ones_like(height))
    return xp.floor((height - side) / 2.0), xp.floor((width - side) / 2.0), side, side


def _random_box(xp: ModuleType, uniforms: Array, spec: AugmentSpec, height: Array, width: Array) -> Box:
    """torchvision's `RandomResizedCrop.get_params`: the first of ten candidates that fits, else a central crop."""

    low, high = spec.crop_scale
    log_low, log_high = math.log(spec.crop_ratio[0]), math.log(spec.crop_ratio[1])
    area = (height * width)[..., None] * (low + (high - low) * uniforms[..., SLOTS["area"]])
    ratio = xp.exp(log_low + (log_high - log_low) * uniforms[..., SLOTS["ratio"]])
    heights, widths = round_half_to_even(xp, xp.sqrt(area / ratio)), round_half_to_even(xp, xp.sqrt(area * ratio))
    fits = (heights > 0) & (heights <= height[..., None]) & (widths > 0) & (widths <= width[..., None])
    fits = to_float(xp, fits)
    first = to_float(xp, xp.cumsum(fits, axis=-1) == 1.0) * fits
    found = xp.sum(first, axis=-1) > 0

    # The fallback keeps the whole image as far as the ratio allows.
    central_height = xp.minimum(height, round_half_to_even(xp, width / spec.crop_ratio[0]))
    central_width = xp.minimum(width, round_half_to_even(xp, height * spec.crop_ratio[1]))
    box_height = xp.where(found, xp.sum(first * heights, axis=-1), central_height)
    box_width = xp.where(found, xp.sum(first * widths, axis=-1), central_width)

    def start(name: str, room: Array) -> Array:
        # A uniform integer of [0, room]; the minimum is for a product that rounds up to room + 1.
        drawn = xp.minimum(xp.floor(uniforms[..., SLOTS[name].start] * (room + 1.0)), room)
        return xp.where(found, drawn, xp.floor(room / 2.0))

    return start("top", height - box_height), start("left", width - box_width), box_height, box_width
