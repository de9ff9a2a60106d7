"""What images may be: shapes and types are known before anything is computed, in `jax.jit` and in tf.data too."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from care_jax.augment.namespace import Array

CHANNEL_AXES = (-1, -2)


def check_shape(images: Array, channel_axis: int = -1) -> None:
    """Whether they are an array of colour images.

    Raises:
      ValueError: channel_axis is neither -1 nor -2; or they are no array, as a list is, or not [..., h, w, 3], or for
        channel_axis -2 [..., h, 3, w].
    """
    if channel_axis not in CHANNEL_AXES:
        raise ValueError(f"channel_axis must be -1, of [..., h, w, 3], or -2, of [..., h, 3, w]; got {channel_axis}")
    wanted = "[..., h, w, 3]" if channel_axis == -1 else "[..., h, 3, w]"
    shape = getattr(images, "shape", None)
    if shape is None:
        raise ValueError(f"images must be an array {wanted}; got a {type(images).__name__}")
    if len(shape) < 3 or shape[channel_axis] != 3:
        raise ValueError(f"images must be {wanted}; got shape {tuple(shape)}")


def is_floating(dtype: Any) -> bool:
    """Whether it is a type of floats, of TensorFlow's types or of JAX's."""
    floating = getattr(dtype, "is_floating", None)  # TensorFlow's types have it
    return bool(jnp.issubdtype(dtype, jnp.floating) if floating is None else floating)


def check_bytes_or_floats(images: Array) -> None:
    """Whether the range of the values can be told of their type.

    Raises:
      ValueError: they are neither uint8 nor floats.
    """
    if images.dtype != np.uint8 and not is_floating(images.dtype):
        raise ValueError(f"images must be uint8, or floats in [0, 1]; got {images.dtype}")


def check_colors(images: Array, channel_axis: int = -1) -> None:
    """Whether they are colour images of floats: of bytes, 255 times too large, all would be clipped to white.

    Raises:
      ValueError: as of `check_shape`; they are no floats.
    """
    check_shape(images, channel_axis)
    if not is_floating(images.dtype):
        raise ValueError(f"images must be floats in [0, 1], as augment.unit_range makes of bytes; got {images.dtype}")


def check_rows(rows: Array, images: Array) -> None:
    """Whether an augmentation's rows go with images: one each, or one for all.

    Args:
      rows: a field of it, of its leading shape [...].
      images: [..., h, w, 3].

    Raises:
      ValueError: the two leading shapes don't broadcast.
    """
    drawn: Any = getattr(rows, "shape", ())
    given: Any = images.shape[:-3]
    if getattr(drawn, "rank", 0) is None or any(side is None for side in (*drawn, *given)):
        return  # TensorFlow will know when it runs
    try:
        np.broadcast_shapes(tuple(drawn), tuple(given))
    except ValueError:
        said, hint = f"augmentations {list(drawn)} and images {list(given)}", ""
        if len(drawn) == len(given) == 1:
            said = f"{drawn[0]} augmentations and {given[0]} images"
            hint = f": share(augmentation, {given[0] // drawn[0]})?" if drawn[0] and given[0] % drawn[0] == 0 else ""
        raise ValueError(f"there must be one augmentation an image, or one for all; got {said}{hint}") from None
