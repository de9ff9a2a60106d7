"""The augmentations that are swept: each one number, its strength, of which 0 leaves an image, or a cloud, as it is.

A strength becomes an augmentation, a row an input, so that it is applied as a step of training would. Those of clouds
are in `cloud_strengths`.
"""

import difflib
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.augment import Augmentation, AugmentSpec, CloudSpec, Drawn, Spec, apply_cloud, cloud_identity
from care_jax.command_line import UsageError
from care_jax.evaluate.cloud_strengths import CLOUD_SWEEPS
from care_jax.evaluate.swept import Sweep


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


def sweeps_of(clouds: bool) -> dict[str, Sweep]:
    """Those of clouds of points, or of images, by their names."""
    return CLOUD_SWEEPS if clouds else SWEEPS


def chosen(
    names: Sequence[str], strengths: Sequence[str] = (), *, clouds: bool = False
) -> dict[str, tuple[float, ...]]:
    """What --augmentations and --strengths ask for.

    Args:
      names: of `sweeps_of(clouds)`; empty for all.
      strengths: numbers for the one that is named; empty for each one's own.
      clouds: whether they are to be of clouds of points.

    Returns:
      Name -> strengths.

    Raises:
      UsageError: a name that there is not, or a strength that is none of the augmentation's.
    """
    sweeps, others = sweeps_of(clouds), sweeps_of(not clouds)
    there = f"there are {', '.join(sweeps)}"
    for name in names:
        if name in sweeps:
            continue
        if name in others:
            kind, other = ("clouds of points", "images") if clouds else ("images", "clouds of points")
            raise UsageError(f"--augmentations: {name!r} is one of {other}; of {kind} {there}")
        close = difflib.get_close_matches(name, sweeps, n=1)
        meant = f"did you mean {close[0]}? There" if close else "there"
        raise UsageError(f"--augmentations: {name!r} is not one; {meant} are {', '.join(sweeps)}")
    if not strengths:
        return {name: sweeps[name].strengths for name in (dict.fromkeys(names) or sweeps)}
    if len(set(names)) != 1:
        one = next(iter(sweeps))
        raise UsageError(f"--strengths are of one augmentation: name it, --augmentations={one} for instance; {there}")
    (name,) = set(names)
    sweep, found = sweeps[name], []
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


def spec_of(name: str, largest: float, *, size: int | None, center_fraction: float = 1.0) -> Spec:
    """What has to be compiled for an augmentation; images come out in [0, 1].

    Args:
      name: of the sweeps; empty for the identity.
      largest: strength, in absolute value, that it will be applied at.
      size: side of the output, pixels; None for clouds of points.
      center_fraction: of the image that is seen.
    """
    enabled = sweeps_of(size is None)[name].enabled(largest, size or 0) if name else {}
    if size is None:
        return CloudSpec(**enabled)
    return AugmentSpec(
        size=size,
        crop="center",
        center_fraction=center_fraction,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        **enabled,
    )


def augmentation(name: str, strengths: jax.Array, spec: Spec, *, shape: Sequence[int]) -> Drawn:
    """The augmentation of b inputs, each at its strength.

    Args:
      name: of the sweeps; empty for the identity.
      strengths: [b].
      spec: as `spec_of` gives it.
      shape: of an input: (h, w, 3), pixels, or (L, 4).

    Returns:
      Leading shape [b].
    """
    count, clouds = (len(strengths),), isinstance(spec, CloudSpec)
    identity: Any
    if isinstance(spec, CloudSpec):
        identity, size = cloud_identity(count), 0
    else:
        identity, size = augment.identity(spec, height=shape[0], width=shape[1], leading_shape=count), spec.size
    if not name:
        return identity
    changed: Drawn = identity._replace(
        **sweeps_of(clouds)[name].changed(identity, jnp.asarray(strengths, jnp.float32), size)
    )
    return changed


@partial(jax.jit, static_argnames=("name", "spec"))
def views(inputs: jax.Array, strengths: jax.Array, *, name: str, spec: Spec) -> jax.Array:
    """What an encoder sees of images, or of clouds.

    Args:
      inputs: images [b, h, w, 3], uint8 or floats in [0, 1]; or clouds [b, L, 4].
      strengths: [b].
      name: of the sweeps; empty for nothing but the central square, or the cloud as it is.
      spec: as `spec_of` gives it.

    Returns:
      [b, s, s, 3] float32 in [0, 1], or [b, L, 4] float32.
    """
    return seen(augmentation(name, strengths, spec, shape=inputs.shape[1:]), inputs, spec)


def seen(drawn: Drawn, inputs: jax.Array, spec: Spec) -> jax.Array:
    """Inputs as `views` has them, under an augmentation of leading shape [b]."""
    if isinstance(spec, CloudSpec):
        assert not isinstance(drawn, Augmentation)
        return apply_cloud(drawn, inputs, spec)
    assert isinstance(drawn, Augmentation)
    return jnp.clip(augment.apply(drawn, inputs, spec), 0.0, 1.0)


def random_strengths(strengths: Sequence[float], n: int, rng: np.random.Generator) -> np.ndarray:
    """One a row, [n] float32: uniform from 0 to the furthest of them; both ways where some are negative."""
    return rng.uniform(min(0.0, *strengths), max(0.0, *strengths), n).astype(np.float32)
