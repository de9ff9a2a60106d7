"""The augmentations that are swept: each one number, its strength, of which 0 leaves the image as it is.

A strength becomes an `augment.Augmentation`, a row an image, so that it is applied as a step of training would.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.augment import Augmentation, AugmentSpec
from care_jax.command_line import UsageError


class Sweep(NamedTuple):
    """An augmentation and the strengths that it is taken at.

    Attributes:
      meaning: of a strength, in words.
      strengths: taken where the user names none.
      low, high: what a strength may be.
      changed: (the identity, strengths [b], side of the output in pixels) -> the fields that change.
      enabled: settings of a spec that compile it in, for strengths up to the largest and a side of the output.
      composes: whether strength s and then strength t is strength s + t.
    """

    meaning: str
    strengths: tuple[float, ...]
    low: float
    high: float
    changed: Callable[[Augmentation, jax.Array, int], dict[str, Any]]
    enabled: Callable[[float, int], dict[str, Any]]
    composes: bool = False


def _factor(name: str, identity: Augmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    return {name: 1.0 - strengths}


def _hue(identity: Augmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    return {"hue": strengths}


def _box(identity: Augmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    height, width = identity.height * (1.0 - strengths), identity.width * (1.0 - strengths)
    top, left = identity.top + (identity.height - height) / 2, identity.left + (identity.width - width) / 2
    return {"top": top, "left": left, "height": height, "width": width}


def _angle(identity: Augmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    return {"angle": jnp.radians(strengths)}


def _sigma(identity: Augmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    return {"blur_sigma": strengths * size}


def _jitter(largest: float, size: int) -> dict[str, Any]:
    return {"jitter_probability": 1.0}


def _nothing(largest: float, size: int) -> dict[str, Any]:
    return {}


def _rotation(largest: float, size: int) -> dict[str, Any]:
    return {"rotation_degrees": 180.0}


def _blur(largest: float, size: int) -> dict[str, Any]:
    radius = min(max(math.ceil(3.0 * largest * size), 1), size - 1)
    return {"blur_probability": 1.0, "blur_kernel_size": 2 * radius + 1}


_LESS = (0.1, 0.2, 0.4, 0.6, 0.8)
SWEEPS: dict[str, Sweep] = {
    "hue": Sweep("turns of the hue", (0.05, 0.1, 0.2, 0.35, 0.5), -1.0, 1.0, _hue, _jitter, composes=True),
    # Less of each, not more: nothing is clipped, so that what the encoder sees of the image is still there.
    "brightness": Sweep("1 - factor; 1 is black", _LESS, -10.0, 1.0, partial(_factor, "brightness"), _jitter),
    "contrast": Sweep("1 - factor; 1 is the mean gray", _LESS, -10.0, 1.0, partial(_factor, "contrast"), _jitter),
    "saturation": Sweep("1 - factor; 1 is gray", _LESS, -10.0, 1.0, partial(_factor, "saturation"), _jitter),
    "crop": Sweep(
        "of each side cut away, the centre enlarged", (0.1, 0.2, 0.3, 0.4, 0.5), 0.0, 0.95, _box, _nothing
    ),
    "rotation": Sweep(
        "degrees, counter-clockwise; black outside", (5.0, 15.0, 30.0, 60.0, 90.0), -180.0, 180.0, _angle, _rotation,
        composes=True,
    ),
    "blur": Sweep("standard deviation as a fraction of the side", (0.01, 0.02, 0.04, 0.08), 0.0, 0.5, _sigma, _blur),
}  # fmt: skip


def chosen(names: Sequence[str], strengths: Sequence[str] = ()) -> dict[str, tuple[float, ...]]:
    """What --augmentations and --strengths ask for.

    Args:
      names: of SWEEPS; empty for all.
      strengths: numbers for the one that is named; empty for each one's own.

    Returns:
      Name -> strengths.

    Raises:
      UsageError: a name that there is not, or a strength that is none of the augmentation's.
    """
    there = f"there are {', '.join(SWEEPS)}"
    for name in names:
        if name not in SWEEPS:
            close = difflib.get_close_matches(name, SWEEPS, n=1)
            meant = f"did you mean {close[0]}? There" if close else "there"
            raise UsageError(f"--augmentations: {name!r} is not one; {meant} are {', '.join(SWEEPS)}")
    if not strengths:
        return {name: SWEEPS[name].strengths for name in (dict.fromkeys(names) or SWEEPS)}
    if len(set(names)) != 1:
        raise UsageError(f"--strengths are of one augmentation: name it, --augmentations=hue for instance; {there}")
    (name,) = set(names)
    sweep, found = SWEEPS[name], []
    for text in strengths:
        try:
            found.append(float(text))
        except ValueError:
            raise UsageError(f"--strengths: {text!r} is no number; of {name} give {sweep.meaning}") from None
        if not sweep.low <= found[-1] <= sweep.high or found[-1] == 0:
            raise UsageError(
                f"--strengths={text}: {name} takes {sweep.low:g} to {sweep.high:g}, but 0: {sweep.meaning}"
            )
    return {name: tuple(dict.fromkeys(found))}


def spec_of(name: str, largest: float, *, size: int, center_fraction: float = 1.0) -> AugmentSpec:
    """What has to be compiled for an augmentation; images come out in [0, 1].

    Args:
      name: of SWEEPS; empty for the identity.
      largest: strength, in absolute value, that it will be applied at.
      size: side of the output, pixels.
      center_fraction: of the image that is seen.
    """
    enabled = SWEEPS[name].enabled(largest, size) if name else {}
    return AugmentSpec(
        size=size,
        crop="center",
        center_fraction=center_fraction,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        **enabled,
    )


def augmentation(name: str, strengths: jax.Array, spec: AugmentSpec, *, height: int, width: int) -> Augmentation:
    """The augmentation of b images, each at its strength.

    Args:
      name: of SWEEPS; empty for the identity.
      strengths: [b].
      spec: as `spec_of` gives it.
      height, width: of the images, pixels.

    Returns:
      Leading shape [b].
    """
    identity = augment.identity(spec, height=height, width=width, leading_shape=(len(strengths),))
    if not name:
        return identity
    return identity._replace(**SWEEPS[name].changed(identity, jnp.asarray(strengths, jnp.float32), spec.size))


@partial(jax.jit, static_argnames=("name", "spec"))
def views(images: jax.Array, strengths: jax.Array, *, name: str, spec: AugmentSpec) -> jax.Array:
    """What an encoder sees of images.

    Args:
      images: [b, h, w, 3], uint8 or floats in [0, 1].
      strengths: [b].
      name: of SWEEPS; empty for nothing but the central square.
      spec: as `spec_of` gives it.

    Returns:
      [b, s, s, 3] float32 in [0, 1].
    """
    height, width = images.shape[1:3]
    drawn = augmentation(name, strengths, spec, height=height, width=width)
    return jnp.clip(augment.apply(drawn, images, spec), 0.0, 1.0)


def random_strengths(strengths: Sequence[float], n: int, rng: np.random.Generator) -> np.ndarray:
    """One a row, [n] float32: uniform from 0 to the furthest of them; both ways where some are negative."""
    return rng.uniform(min(0.0, *strengths), max(0.0, *strengths), n).astype(np.float32)
