"""Deterministic operations on the pixel grid. Results are float32; parameters are scalars or one value an image.

Resize and blur are separable and linear: out = R image C^T, with small matrices R along the rows and C along the
columns, one pair an image, or one for all where the parameters are scalars. No gather, no loop over images.

Every function takes `channel_axis`: -1 for images [..., h, w, 3], or -2 for [..., h, 3, w]. In the latter layout both
products are plain matrix products, (h 3) x w by C^T and R by h x (3 w), and nothing need be transposed.

Values keep their units: bytes come back as floats of 0 to 255.
Raises: every function raises a `ValueError` for images of other shapes.
"""

from types import ModuleType
from typing import Any

import numpy as np

from care_jax.augment.checks import check_shape
from care_jax.augment.namespace import Array, clip, compute_once, einsum, gather, length, namespace, positions, to_float


def horizontal_flip(images: Array, *, channel_axis: int = -1) -> Array:
    """Mirrors left and right."""
    check_shape(images, channel_axis)
    images = to_float(namespace(images), images)
    return images[..., ::-1, :] if channel_axis == -1 else images[..., ::-1]


def resized_crop(
    images: Array,
    top: float | Array,
    left: float | Array,
    height: float | Array,
    width: float | Array,
    *,
    size: int,
    antialias: bool = True,
    channel_axis: int = -1,
) -> Array:
    """Cuts a box out and resizes it: bilinear, half-pixel centres, as torchvision's `resized_crop`.

    Args:
      images: [..., h, w, 3].
      top: first row of the box, pixels; scalar or [...]. The box lies within the image.
      left: first column.
      height: rows of the box.
      width: columns of the box. A box may be read backwards: one that starts at `left + width` and has a negative width
        gives the mirrored crop.
      size: side of the output, pixels.
      antialias: widen the triangle filter along a side of the box that is longer than the output.
      channel_axis: of the result; the images always have their channels last.

    Returns:
      [..., size, size, 3] float32, or [..., size, 3, size] for channel_axis -2.
    """
    check_shape(images)
    xp = namespace(images, top, left, height, width)
    images = to_float(xp, images)
    rows = _resize_weights(xp, top, height, length(images, -3), size, antialias)
    columns = _resize_weights(xp, left, width, length(images, -2), size, antialias)
    # Rows first: as stored, h x (w 3) is a plain matrix, and only the smaller result is transposed.
    images = xp.swapaxes(einsum(xp, "...ih,...hwc->...iwc", rows, images), -1, -2)
    images = einsum(xp, "...icw,...jw->...icj", images, columns)
    return images if channel_axis == -2 else xp.swapaxes(images, -1, -2)


def gaussian_blur(images: Array, sigma: float | Array, *, kernel_size: int, channel_axis: int = -1) -> Array:
    """Gaussian blur with reflect padding, as torchvision's; sigma 0 changes nothing.

    Args:
      images: [..., h, w, 3].
      sigma: standard deviation, pixels; scalar or [...].
      kernel_size: odd, less than twice the shorter side.
      channel_axis: of the images; -1 or -2.

    Returns:
      As `images`, float32.

    Raises:
      ValueError: the kernel is even, or reaches further than one reflection; images of another shape.
    """
    check_shape(images, channel_axis)
    xp = namespace(images, sigma)
    images = to_float(xp, images)
    radius = kernel_size // 2
    height, width = images.shape[-3], images.shape[-2 if channel_axis == -1 else -1]
    if kernel_size % 2 != 1 or radius >= min(height, width):
        raise ValueError(f"kernel_size must be odd and less than twice the {height}x{width} image; got {kernel_size}")
    # The floor only keeps the division finite: at that width every weight but the middle one is exactly 0.
    sigma = xp.maximum(to_float(xp, sigma), to_float(xp, 1e-3))[..., None]
    kernel = xp.exp(-0.5 * (positions(xp, radius + 1) / sigma) ** 2)
    kernel = kernel / (2.0 * xp.sum(kernel, axis=-1, keepdims=True) - 1.0)
    rows = einsum(xp, "...k,kij->...ij", kernel, to_float(xp, _blur_bands(radius, height)))
    columns = einsum(xp, "...k,kij->...ij", kernel, to_float(xp, _blur_bands(radius, width)))
    # Columns first: XLA then fuses what made the images into the first product's operand without an index division.
    images = images if channel_axis == -2 else xp.swapaxes(images, -1, -2)
    images = einsum(xp, "...hcw,...jw->...hcj", images, columns)
    images = einsum(xp, "...ih,...hcw->...icw", rows, images)
    return images if channel_axis == -2 else xp.swapaxes(images, -1, -2)


def rotate_and_translate(
    images: Array,
    angle: float | Array,
    shift_y: float | Array = 0.0,
    shift_x: float | Array = 0.0,
    *,
    channel_axis: int = -1,
) -> Array:
    """Rotates about the centre, then shifts; bilinear, with 0 outside the image.

    Args:
      images: [..., h, w, 3].
      angle: radians, counter-clockwise as seen; scalar or [...].
      shift_y: downwards, as a fraction of the height; scalar or [...].
      shift_x: to the right, as a fraction of the width.
      channel_axis: of the images; -1 or -2.

    Returns:
      As `images`, float32.
    """
    check_shape(images, channel_axis)
    xp = namespace(images, angle, shift_y, shift_x)
    images = to_float(xp, images)
    if channel_axis == -2:
        images = xp.swapaxes(images, -1, -2)
    height, width = images.shape[-3], images.shape[-2]
    angle, shift_y, shift_x = xp.broadcast_arrays(
        *(to_float(xp, x)[..., None, None] for x in (angle, shift_y, shift_x))
    )
    y = positions(xp, height)[:, None] - (height - 1) / 2 - shift_y * float(height)
    x = positions(xp, width)[None, :] - (width - 1) / 2 - shift_x * float(width)
    # Where each output pixel comes from. Rows run downwards, which turns the usual signs. One pixel outside the image
    # everything is 0, so further out need not be told apart.
    source_y = clip(xp, xp.sin(angle) * x + xp.cos(angle) * y + (height - 1) / 2, -1.0, float(height))
    source_x = clip(xp, xp.cos(angle) * x - xp.sin(angle) * y + (width - 1) / 2, -1.0, float(width))
    corner_y = clip(xp, xp.floor(source_y), -1.0, height - 1.0)
    corner_x = clip(xp, xp.floor(source_x), -1.0, width - 1.0)

    # A table of 2x2 neighbourhoods: one gather of twelve numbers is much faster than four of three.
    leading = tuple(length(images, axis) for axis in range(len(images.shape) - 3))
    padded = xp.pad(images, [(0, 0)] * len(leading) + [(1, 1), (1, 1), (0, 0)], "constant")
    corners = [padded[..., i : i + height + 1, j : j + width + 1, :] for i in (0, 1) for j in (0, 1)]
    table = xp.reshape(xp.concatenate(corners, axis=-1), (*leading, (height + 1) * (width + 1), 12))
    index = xp.asarray((corner_y + 1.0) * float(width + 1) + (corner_x + 1.0), dtype=np.int32)
    index = xp.reshape(index, (*(length(index, axis) for axis in range(len(index.shape) - 2)), height * width))
    neighbours = xp.reshape(gather(xp, table, index), (*leading, height, width, 12))
    down, right = (source_y - corner_y)[..., None], (source_x - corner_x)[..., None]
    upper = neighbours[..., 0:3] * (1.0 - right) + neighbours[..., 3:6] * right
    lower = neighbours[..., 6:9] * (1.0 - right) + neighbours[..., 9:12] * right
    images = compute_once(xp, upper * (1.0 - down) + lower * down)
    return xp.swapaxes(images, -1, -2) if channel_axis == -2 else images


def _resize_weights(
    xp: ModuleType, start: float | Array, extent: float | Array, in_size: Any, out_size: int, antialias: bool
) -> Array:
    """[..., out_size, in_size]: row i weighs the input pixels for output pixel i; rows sum to 1.

    A negative extent runs from `start` downwards.
    """
    start, extent = to_float(xp, start)[..., None, None], to_float(xp, extent)[..., None, None]
    scale = extent / float(out_size)
    one = to_float(xp, 1.0)
    support = xp.maximum(xp.abs(scale), one) if antialias else one
    pixel = positions(xp, in_size) + 0.5 - start  # relative to the box, where float32 is finest
    center = (positions(xp, out_size)[:, None] + 0.5) * scale
    weights = xp.maximum(1.0 - xp.abs(pixel - center) / support, to_float(xp, 0.0))
    weights = weights * to_float(xp, xp.abs(2.0 * pixel - extent) < xp.abs(extent))
    return weights / xp.sum(weights, axis=-1, keepdims=True)


def _blur_bands(radius: int, size: int) -> np.ndarray:
    """[radius + 1, size, size]: entry [k, i, j] is how often pixel j, edges reflected, lies at distance k of i."""
    bands = np.zeros((radius + 1, size, size), np.float32)
    for offset in range(-radius, radius + 1):
        source = np.abs(np.arange(size) + offset)
        source = np.where(source > size - 1, 2 * (size - 1) - source, source)
        bands[abs(offset), np.arange(size), source] += 1.0
    return bands
