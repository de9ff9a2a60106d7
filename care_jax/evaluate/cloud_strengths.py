"""The augmentations of clouds of points that are swept, each one number of which 0 leaves a cloud as it is.

What a draw would choose beside the strength is fixed: the axis of a rotation; by the number of a point its noise, and
when it is left out. So a strength is one augmentation, the same for every cloud.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from care_jax.augment.clouds import CloudAugmentation, axis_rotation
from care_jax.evaluate.swept import Sweep

# Of rotations: no axis of the coordinates, along which an encoder might see better than along others.
AXIS = np.full(3, 1.0 / math.sqrt(3.0), np.float32)


def _rotation(identity: CloudAugmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    axes = jnp.broadcast_to(AXIS, (*strengths.shape, 3))
    return {"rotation": axis_rotation(axes, jnp.radians(strengths))}


def _scale(identity: CloudAugmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    return {"scale": 1.0 - strengths}


def _field(name: str, identity: CloudAugmentation, strengths: jax.Array, size: int) -> dict[str, Any]:
    return {name: strengths}


def _on(setting: str, value: Any, largest: float, size: int) -> dict[str, Any]:
    return {setting: value}


CLOUD_SWEEPS: dict[str, Sweep] = {
    "rotation": Sweep(
        "degrees about the axis (1, 1, 1)", (15.0, 45.0, 90.0, 135.0, 180.0), -180.0, 180.0, _rotation,
        partial(_on, "rotation", True), composes=True,
    ),
    "scaling": Sweep(
        "1 - factor; 1 is a point", (0.1, 0.2, 0.4, 0.6, 0.8), -10.0, 1.0, _scale, partial(_on, "scaling", 1.0)
    ),
    "jitter": Sweep(
        "standard deviation; of proteins 1 is 15 Å", (0.02, 0.05, 0.1, 0.2, 0.4), 0.0, 10.0,
        partial(_field, "jitter"), partial(_on, "jitter", 1.0),
    ),
    "dropping": Sweep(
        "share of the points left out; one stays always", (0.1, 0.2, 0.4, 0.6, 0.8), 0.0, 1.0,
        partial(_field, "dropping"), partial(_on, "dropping", 0.5),
    ),
}  # fmt: skip
