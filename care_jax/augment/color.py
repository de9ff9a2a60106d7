"""Deterministic colour operations on images in [0, 1], equal to torchvision's.

Factors are scalars or one value an image; results are float32 and clipped to [0, 1]. Inside, an image is three planes
[..., h, w]: no operation then broadcasts over the channels, which is slow in TensorFlow and blocks fusion in XLA.

Every function takes `channel_axis`: -1 for images [..., h, w, 3], -2 for [..., h, 3, w], the layout in which `apply`
works (`care_jax.augment.geometry` says why).
Raises: every function raises a `ValueError` for images of other shapes, and of bytes or other integers, which
`augment.unit_range` makes floats of.
"""

from types import ModuleType

from care_jax.augment.checks import check_colors
from care_jax.augment.namespace import Array, clip, compute_once, namespace, to_float

RED, GREEN, BLUE = 0.2989, 0.587, 0.114  # ITU-R 601 luma, with torchvision's digits

Planes = tuple[Array, Array, Array]


def adjust_brightness(images: Array, factor: float | Array, *, channel_axis: int = -1) -> Array:
    """clip(factor * images).

    Args:
      images: [..., h, w, 3] in [0, 1].
      factor: scalar or [...]; 1 changes nothing, 0 gives black.
      channel_axis: of the images; -1 or -2.

    Returns:
      As `images`, float32.
    """
    check_colors(images, channel_axis)
    xp = namespace(images, factor)
    return clip(xp, to_float(xp, images) * to_float(xp, factor)[..., None, None, None], 0.0, 1.0)


def adjust_contrast(images: Array, factor: float | Array, *, channel_axis: int = -1) -> Array:
    """clip(factor * images + (1 - factor) * m), m the mean of the gray image.

    Args and returns: as `adjust_brightness`; factor 0 gives a gray plane.
    """
    xp = namespace(images, factor)
    planes, factor = _split(xp, images, channel_axis), _per_image(xp, factor)
    return xp.stack(_blend(xp, planes, factor, (1.0 - factor) * _mean(xp, _gray(planes))), axis=channel_axis)


def adjust_saturation(images: Array, factor: float | Array, *, channel_axis: int = -1) -> Array:
    """clip(factor * images + (1 - factor) * gray).

    Args and returns: as `adjust_brightness`; factor 0 gives the gray image.
    """
    xp = namespace(images, factor)
    planes, factor = _split(xp, images, channel_axis), _per_image(xp, factor)
    return xp.stack(_blend(xp, planes, factor, (1.0 - factor) * _gray(planes)), axis=channel_axis)


def adjust_hue(images: Array, delta: float | Array, *, channel_axis: int = -1) -> Array:
    """Turns the hue in HSV, leaving value and saturation.

    Args:
      images: [..., h, w, 3] in [0, 1].
      delta: turns (1 is a full circle); scalar or [...].
      channel_axis: of the images; -1 or -2.

    Returns:
      As `images`, float32.

    >>> import numpy as np
    >>> red = np.array([[[1.0, 0.0, 0.0]]])
    >>> np.round(adjust_hue(red, 1 / 3), 3).tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    xp = namespace(images, delta)
    return xp.stack(_turn_hue(xp, _split(xp, images, channel_axis), _per_image(xp, delta)), axis=channel_axis)


def to_grayscale(images: Array, *, channel_axis: int = -1) -> Array:
    """0.2989 R + 0.587 G + 0.114 B in all three channels."""
    xp = namespace(images)
    gray = _gray(_split(xp, images, channel_axis))
    return xp.stack([gray, gray, gray], axis=channel_axis)


def solarize(images: Array, threshold: float | Array, *, channel_axis: int = -1) -> Array:
    """Inverts the values at or above the threshold (scalar or one value an image): x -> 1 - x."""
    check_colors(images, channel_axis)
    xp = namespace(images, threshold)
    images = to_float(xp, images)
    return xp.where(images >= to_float(xp, threshold)[..., None, None, None], 1.0 - images, images)


def color_jitter(
    images: Array,
    order: Array,
    brightness: float | Array,
    contrast: float | Array,
    saturation: float | Array,
    hue: float | Array,
    *,
    channel_axis: int = -1,
) -> Array:
    """The four adjustments in the given order, each clipped to [0, 1].

    All images run the same code whatever their order. Brightness, contrast and saturation are blends with 0, the mean
    gray and the gray image, so one blend with weights of its own for each image is any of the three. Hue comes once,
    with three blends before it and three after; a blend on the wrong side of it has factor 1 and changes nothing.

    Args:
      images: [..., h, w, 3] in [0, 1].
      order: [4] or [..., 4], a permutation: 0 brightness, 1 contrast, 2 saturation, 3 hue; first to last.
      brightness: factor; scalar or [...].
      contrast: factor.
      saturation: factor.
      hue: turns.
      channel_axis: of the images; -1 or -2.

    Returns:
      As `images`, float32.
    """
    xp = namespace(images, order, brightness, contrast, saturation, hue)
    order = to_float(xp, order)
    is_operation = [[to_float(xp, order[..., slot] == float(op)) for op in range(4)] for slot in range(4)]
    excess = [to_float(xp, factor) - 1.0 for factor in (brightness, contrast, saturation)]
    hue_slot = sum(float(slot) * is_operation[slot][3] for slot in range(4))

    def blend(planes: Planes, slot: int, active: Array) -> Planes:
        excess_here = [active * is_operation[slot][op] * excess[op] for op in range(3)]
        gray = _gray(planes)
        target = _per_image(xp, -excess_here[2]) * gray + _per_image(xp, -excess_here[1]) * _mean(xp, gray)
        return _blend(xp, planes, _per_image(xp, 1.0 + sum(excess_here)), target)

    planes = _split(xp, images, channel_axis)
    for slot in (0, 1, 2):
        planes = blend(planes, slot, to_float(xp, hue_slot > slot))
    planes = _turn_hue(xp, planes, _per_image(xp, hue))
    for slot in (1, 2, 3):
        planes = blend(planes, slot, to_float(xp, hue_slot < slot))
    return compute_once(xp, xp.stack(planes, axis=channel_axis))


def _split(xp: ModuleType, images: Array, channel_axis: int) -> Planes:
    check_colors(images, channel_axis)
    images = to_float(xp, images)
    if channel_axis == -1:
        return images[..., 0], images[..., 1], images[..., 2]
    return images[..., 0, :], images[..., 1, :], images[..., 2, :]


def _per_image(xp: ModuleType, x: float | Array) -> Array:
    return to_float(xp, x)[..., None, None]


def _gray(planes: Planes) -> Array:
    return RED * planes[0] + GREEN * planes[1] + BLUE * planes[2]


def _mean(xp: ModuleType, gray: Array) -> Array:
    return xp.mean(gray, axis=(-2, -1), keepdims=True)


def _blend(xp: ModuleType, planes: Planes, factor: Array, target: Array) -> Planes:
    red, green, blue = (clip(xp, factor * plane + target, 0.0, 1.0) for plane in planes)
    return red, green, blue


def _turn_hue(xp: ModuleType, planes: Planes, delta: Array) -> Planes:
    red, green, blue = planes
    value = xp.maximum(xp.maximum(red, green), blue)
    chroma = value - xp.minimum(xp.minimum(red, green), blue)
    zeros = xp.zeros_like(value)
    is_red, is_green = value == red, value == green
    difference = xp.where(is_red, green - blue, xp.where(is_green, blue - red, red - green))
    offset = xp.where(is_red, zeros, xp.where(is_green, zeros + 2.0, zeros + 4.0))
    # The hue in sixths of a turn. A gray pixel has chroma 0 and any hue.
    hue = difference / xp.where(chroma > 0, chroma, zeros + 1.0) + (offset + 6.0 * delta)

    def channel(phase: float) -> Array:
        # HSV to RGB in closed form: value less chroma times a trapezoid of the hue, 0 around the channel's own.
        turned = hue + phase
        turned = turned - 6.0 * xp.floor(turned / 6.0)
        return clip(xp, value - chroma * clip(xp, 2.0 - xp.abs(turned - 2.0), 0.0, 1.0), 0.0, 1.0)

    return channel(5.0), channel(3.0), channel(1.0)
