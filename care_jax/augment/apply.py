"""Applies drawn augmentations to images. Deterministic: equal rows and equal images give equal pixels."""

from typing import TypeVar

import numpy as np

from care_jax.augment import color, geometry
from care_jax.augment.augmentation import Augmentation, AugmentSpec
from care_jax.augment.checks import check_bytes_or_floats, check_rows, check_shape
from care_jax.augment.clouds import CloudAugmentation
from care_jax.augment.namespace import Array, namespace, to_float

# From the crop to the normalisation images are [..., h, 3, w]; `geometry` says why.
_CHANNEL_AXIS = -2

Drawn = TypeVar("Drawn", Augmentation, CloudAugmentation)


def apply(augmentation: Augmentation, images: Array, spec: AugmentSpec) -> Array:
    """Crop, resize, flip, rotate and shift, jitter, gray, blur, solarize, further operations, normalise: in this order.

    Args:
      augmentation: leading shape [b], a row an image, or (), one shared by all images (its weights are made once).
      images: [b, h, w, 3], uint8 or floats in [0, 1].
      spec: the ranges it was drawn from. What they leave off is not computed, so the augmentation's own value of it is
        ignored.

    Returns:
      [b, size, size, 3] float32, normalised by the spec's mean and standard deviation.

    Raises:
      ValueError: the images are no array [..., h, w, 3] of uint8 or floats; there is neither one augmentation an image
        nor one for all; or the augmentation was drawn with other operations.
    """
    xp = namespace(images, *augmentation)
    if spec.flip_probability > 0:  # a box read from right to left makes the flip free
        flip, left, width = (to_float(xp, x) for x in (augmentation.flip, augmentation.left, augmentation.width))
        augmentation = augmentation._replace(left=left + flip * width, width=width * (1.0 - 2.0 * flip))
    return _finish(augmentation, _distort(augmentation, _crop(augmentation, images, spec), spec), spec)


def crop(augmentation: Augmentation, images: Array, spec: AugmentSpec) -> Array:
    """The first half of `apply`: box and resize only.

    Args:
      augmentation: as `apply`.
      images: as `apply`.
      spec: as `apply`.

    Returns:
      [b, size, size, 3] float32 in [0, 1].

    Raises:
      ValueError: as `apply`.
    """
    return _swap(_crop(augmentation, images, spec))


def apply_after_crop(augmentation: Augmentation, images: Array, spec: AugmentSpec) -> Array:
    """The second half of `apply`, from the flip to the normalisation.

    Args:
      augmentation: as `apply`; its box is not looked at.
      images: [b, size, size, 3], cropped and resized; uint8 or floats in [0, 1].
      spec: as `apply`.

    Returns:
      [b, size, size, 3] float32, normalised.

    Raises:
      ValueError: as `apply`.
    """
    xp = namespace(images, *augmentation)
    check_shape(images)
    check_rows(augmentation.flip, images)
    images = _swap(unit_range(images))
    if spec.flip_probability > 0:
        flip = to_float(xp, augmentation.flip)[..., None, None, None]
        images = xp.where(flip > 0.5, geometry.horizontal_flip(images, channel_axis=_CHANNEL_AXIS), images)
    return _finish(augmentation, _distort(augmentation, images, spec), spec)


def unit_range(images: Array) -> Array:
    """Images of bytes, or of floats in [0, 1] already, as float32 in [0, 1].

    Raises:
      ValueError: they are of another type, whose values nobody can tell the range of.
    """
    if getattr(images, "dtype", None) is None:
        raise ValueError(f"images must be an array; got a {type(images).__name__}")
    check_bytes_or_floats(images)
    floats = to_float(namespace(images), images)
    return floats / 255.0 if images.dtype == np.uint8 else floats


def share(augmentation: Drawn, n: int) -> Drawn:
    """Gives each of g groups' augmentation to its n images, or clouds.

    Args:
      augmentation: leading shape [g], of images or of clouds.
      n: images in a group.

    Returns:
      Leading shape [g * n], of the same type; row i is the augmentation of group i // n.
    """
    xp = namespace(*augmentation)
    return augmentation._replace(**{name: xp.repeat(x, n, axis=0) for name, x in augmentation._asdict().items()})


def _crop(augmentation: Augmentation, images: Array, spec: AugmentSpec) -> Array:
    check_shape(images)
    check_bytes_or_floats(images)
    check_rows(augmentation.top, images)
    cropped = geometry.resized_crop(
        images,
        augmentation.top,
        augmentation.left,
        augmentation.height,
        augmentation.width,
        size=spec.size,
        antialias=spec.antialias,
        channel_axis=_CHANNEL_AXIS,
    )
    return cropped / 255.0 if images.dtype == np.uint8 else cropped


def _distort(augmentation: Augmentation, images: Array, spec: AugmentSpec) -> Array:
    xp = namespace(images, *augmentation)
    if spec.rotation_degrees > 0 or spec.translation > 0:
        images = geometry.rotate_and_translate(
            images, augmentation.angle, augmentation.shift_y, augmentation.shift_x, channel_axis=_CHANNEL_AXIS
        )
    if spec.jitter_probability > 0:
        images = color.color_jitter(
            images,
            augmentation.order,
            augmentation.brightness,
            augmentation.contrast,
            augmentation.saturation,
            augmentation.hue,
            channel_axis=_CHANNEL_AXIS,
        )
    if spec.grayscale_probability > 0:
        images = color.adjust_saturation(images, 1.0 - to_float(xp, augmentation.grayscale), channel_axis=_CHANNEL_AXIS)
    if spec.blur_probability > 0:
        images = geometry.gaussian_blur(
            images, augmentation.blur_sigma, kernel_size=spec.blur_kernel_size, channel_axis=_CHANNEL_AXIS
        )
    if spec.solarize_probability > 0:
        solarized = color.solarize(images, spec.solarize_threshold, channel_axis=_CHANNEL_AXIS)
        images = xp.where(to_float(xp, augmentation.solarize)[..., None, None, None] > 0.5, solarized, images)
    return images


def _finish(augmentation: Augmentation, images: Array, spec: AugmentSpec) -> Array:
    """Further operations that the augmentation has drawn, and the normalisation."""
    images = _swap(images)
    operations = spec.operations if augmentation.further.shape[-1] else ()  # the identity has drawn nothing
    size, start = sum(operation.size for operation in operations), 0
    if operations and augmentation.further.shape[-1] != size:
        raise ValueError(f"augmentation.further must be [..., {size}]; got shape {tuple(augmentation.further.shape)}")
    for operation in operations:
        images = operation.apply(images, augmentation.further[..., start : start + operation.size])
        start += operation.size
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    return (images - mean) / std


def _swap(images: Array) -> Array:
    return namespace(images).swapaxes(images, -1, -2)
