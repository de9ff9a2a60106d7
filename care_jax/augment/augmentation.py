"""What may be drawn (`AugmentSpec`), and what was drawn (`Augmentation`).

An augmentation is a value: drawn once, it can be shared by a group, composed, logged and replayed.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from care_jax.augment.namespace import Array, namespace, to_float
from care_jax.augment.operations import Chosen, choose, settings_of_operations

CROPS = ("random_resized", "center")

_PROBABILITIES = (
    "flip_probability",
    "jitter_probability",
    "grayscale_probability",
    "blur_probability",
    "solarize_probability",
)
_PAIRS = ("crop_scale", "crop_ratio", "blur_sigma")
_TRIPLES = ("mean", "std")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentSpec:
    """The ranges an augmentation is drawn from; static and hashable, so it can be a static argument of `jax.jit`.

    Everything but the output and the normalisation is off by default. What a spec leaves off is not compiled in. Lists
    and arrays of one axis are taken for tuples, NumPy's integers for Python's.

    Args:
      size: side of the (square) output, pixels.
      crop: "random_resized" (torchvision's RandomResizedCrop) or "center".
      crop_scale: range of the crop's area as a fraction of the image's.
      crop_ratio: range of the crop's aspect ratio, width / height (log-uniform).
      center_fraction: "center" takes the central square of side `center_fraction * min(height, width)`;
        torchvision's Resize(256) then CenterCrop(224) is 0.875.
      antialias: whether the triangle filter is widened when the crop is larger than the output.
      flip_probability: of a horizontal flip.
      jitter_probability: of the colour jitter (the four operations below, in random order).
      brightness: x for a factor in U(max(0, 1 - x), 1 + x).
      contrast: the same.
      saturation: the same.
      hue: x for a shift in U(-x, x), turns; at most 0.5.
      grayscale_probability: of dropping the colour.
      blur_probability: of a Gaussian blur.
      blur_kernel_size: its side, pixels of the output; odd.
      blur_sigma: range of its standard deviation, pixels of the output.
      solarize_probability: of inverting the pixels at or above the threshold.
      solarize_threshold: in [0, 1].
      rotation_degrees: x for an angle in U(-x, x), degrees.
      translation: x for shifts in U(-x, x), each way, as a fraction of the side.
      mean: subtracted from each channel at the end.
      std: then divides each channel.
      operations: further ones that can happen, as `from_settings` makes them of their settings.

    Raises:
      ValueError: a field is out of its range; the message names it and its value.

    >>> AugmentSpec(size=32, hue=0.7, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    Traceback (most recent call last):
        ...
    ValueError: AugmentSpec.hue must be turns, in [0, 0.5]; got 0.7
    """

    size: int
    crop: str = "random_resized"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    center_fraction: float = 1.0
    antialias: bool = True
    flip_probability: float = 0.0
    jitter_probability: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale_probability: float = 0.0
    blur_probability: float = 0.0
    blur_kernel_size: int = 3
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_probability: float = 0.0
    solarize_threshold: float = 0.5
    rotation_degrees: float = 0.0
    translation: float = 0.0
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    operations: tuple[Chosen, ...] = ()

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """All settings of a branch, those of the registered operations too, with the values that leave all off.

        Raises:
          ValueError: an operation has a setting of a name that there is already.
        """
        fields, further = {f.name: f.default for f in dataclasses.fields(cls)}, settings_of_operations()
        for name in fields.keys() & further.keys():
            raise ValueError(f"an operation has a setting {name!r}, and so has AugmentSpec: rename the operation's")
        given = {"size", "mean", "std", "operations"}
        return {name: value for name, value in fields.items() if name not in given} | further

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], **given: Any) -> "AugmentSpec":
        """The ranges that settings of a branch describe; lists, of a configuration read from JSON, are pairs.

        Args:
          settings: as `settings` lists them.
          **given: size, mean and std.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        own: dict[str, Any] = {name: value for name, value in values.items() if name not in settings_of_operations()}
        return cls(**own, **given, operations=choose(values))

    def __post_init__(self) -> None:
        for name in _PAIRS + _TRIPLES:
            value = getattr(self, name)
            if isinstance(value, np.ndarray | jax.Array) and value.ndim == 1:
                value = value.tolist()
            self._check(name, isinstance(value, tuple | list), "a tuple")
            object.__setattr__(self, name, tuple(value))  # a list, from a config, has no hash
        for name in ("size", "blur_kernel_size"):
            if isinstance(getattr(self, name), np.integer):
                object.__setattr__(self, name, int(getattr(self, name)))
        self._check("size", isinstance(self.size, int) and self.size >= 1, "a whole number of pixels, at least 1")
        self._check("crop", self.crop in CROPS, f"one of {CROPS}")
        for name in _PAIRS:
            pair = getattr(self, name)
            self._check(name, len(pair) == 2 and 0 < pair[0] <= pair[1] < math.inf, "(low, high) with 0 < low <= high")
        self._check("crop_scale", self.crop_scale[1] <= 1, "fractions of the image's area, at most 1")
        self._check("center_fraction", 0 < self.center_fraction <= 1, "in (0, 1]")
        for name in (*_PROBABILITIES, "solarize_threshold", "translation"):
            self._check(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        for name in ("brightness", "contrast", "saturation"):
            self._check(name, 0 <= getattr(self, name) < math.inf, "at least 0")
        self._check("hue", 0 <= self.hue <= 0.5, "turns, in [0, 0.5]")
        self._check("rotation_degrees", 0 <= self.rotation_degrees <= 180, "in [0, 180]")
        kernel_size = self.blur_kernel_size
        is_odd = isinstance(kernel_size, int) and kernel_size > 0 and kernel_size % 2 == 1
        self._check("blur_kernel_size", is_odd, "a positive odd number of pixels")
        if self.blur_probability > 0:
            self._check("blur_kernel_size", kernel_size // 2 < self.size, "less than twice the size")
        for name in _TRIPLES:
            channels = getattr(self, name)
            self._check(name, len(channels) == 3 and all(map(math.isfinite, channels)), "three numbers, one a channel")
        self._check("std", min(self.std) > 0, "positive")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"AugmentSpec.{name} must be {expected}; got {getattr(self, name)!r}")


class Augmentation(NamedTuple):
    """One drawn augmentation a row: every field has the same leading shape [...], `order` and `further` one axis more.

    A pytree for JAX and a structure for `tf.nest`. With leading shape () it acts on a whole batch alike.
    """

    top: Array  # pixels of the input image; integer-valued
    left: Array
    height: Array
    width: Array
    flip: Array  # 0 or 1
    jittered: Array  # 0 or 1; the four factors below already say it, but methods that condition on it need it
    order: Array  # [..., 4] int32: 0 brightness, 1 contrast, 2 saturation, 3 hue; first to last
    brightness: Array  # factor; 1 is off
    contrast: Array  # factor; 1 is off
    saturation: Array  # factor; 1 is off
    hue: Array  # turns; 0 is off
    grayscale: Array  # 0 or 1
    blur_sigma: Array  # pixels of the output; 0 is off
    solarize: Array  # 0 or 1
    angle: Array  # radians, counter-clockwise; 0 is off
    shift_y: Array  # fraction of the side, downwards; 0 is off
    shift_x: Array  # fraction of the side, to the right; 0 is off
    further: Array  # [..., k] what further operations have drawn, one after the other


def box_fractions(
    augmentation: Augmentation, *, height: int | Array, width: int | Array
) -> tuple[Array, Array, Array, Array]:
    """The crop as fractions of the image's sides.

    Args:
      augmentation: leading shape [...].
      height: of the input image, pixels: one number, or one a row [...].
      width: the same.

    Returns:
      Top, left, height and width, each [...] float32.
    """
    xp = namespace(*augmentation, height, width)
    height, width = to_float(xp, height), to_float(xp, width)
    top, left, box_height, box_width = (to_float(xp, x) for x in augmentation[:4])
    return top / height, left / width, box_height / height, box_width / width
