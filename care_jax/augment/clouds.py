"""Augmentations of clouds of points: what may be drawn (`CloudSpec`), what was drawn, and its application.

A cloud is one array, [n, 4]: the coordinates of a point, and 1; or, where there is none, four zeros.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# How a row of uniforms is spent; new draws go to the end.
_ROTATION, _SCALE, _NOISE, _LEFT_OUT = slice(0, 3), 3, slice(4, 6), slice(6, 8)
NUM_CLOUD_UNIFORMS = 8
_SEEDS = 2**24  # that a float32 in [0, 1) tells apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudSpec:
    """The ranges that an augmentation of clouds is drawn from; static and hashable. Everything is off by default.

    Jitter and leaving out act on points by their number: what a group shares is the same for its clouds' i-th points.

    Args:
      rotation: whether clouds are turned about the origin, by a rotation uniform over SO(3) (Haar measure).
      scaling: x for a factor of the coordinates exp(U(-x, x)).
      jitter: standard deviation of normal noise, of each coordinate of each point, in the units of the coordinates.
      dropping: probability that a point is left out, each by itself; one stays always.

    Raises:
      ValueError: a field is out of its range; the message names it and its value.
    """

    rotation: bool = False
    scaling: float = 0.0
    jitter: float = 0.0
    dropping: float = 0.0

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """All settings of a branch, with the values that leave all off."""
        return {field.name: field.default for field in dataclasses.fields(cls)}

    def __post_init__(self) -> None:
        if not isinstance(self.rotation, bool):
            raise ValueError(f"CloudSpec.rotation must be True or False; got {self.rotation!r}")
        for name, below, expected in (
            ("scaling", math.inf, "a finite number, at least 0"),
            ("jitter", math.inf, "a finite number, at least 0"),
            ("dropping", 1, "a probability, in [0, 1)"),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.integer | np.floating) or not 0 <= value < below:
                raise ValueError(f"CloudSpec.{name} must be {expected}; got {value!r}")


class CloudAugmentation(NamedTuple):
    """One drawn augmentation a row, leading shape [...]; with leading shape () it acts on a whole batch alike."""

    rotation: jax.Array  # [..., 3, 3], in SO(3)
    scale: jax.Array  # factor; 1 is off
    jitter: jax.Array  # standard deviation; 0 is off
    noise: jax.Array  # [..., 2] uint32, the seed of the noise
    dropping: jax.Array  # probability; 0 is off
    left_out: jax.Array  # [..., 2] uint32, the seed of which points are left out


def sample_cloud(uniforms: jax.Array, spec: CloudSpec) -> CloudAugmentation:
    """Turns rows of uniform numbers into augmentations.

    Args:
      uniforms: [..., NUM_CLOUD_UNIFORMS] in [0, 1), float32.
      spec: the ranges.

    Returns:
      Leading shape [...].

    Raises:
      ValueError: rows of another length.
    """
    if uniforms.shape[-1] != NUM_CLOUD_UNIFORMS:
        raise ValueError(f"uniforms must be [..., {NUM_CLOUD_UNIFORMS}]; got shape {tuple(uniforms.shape)}")
    uniforms = jnp.asarray(uniforms, jnp.float32)
    nothing = cloud_identity(uniforms.shape[:-1])
    ones = nothing.scale
    return nothing._replace(
        rotation=haar_rotation(uniforms[..., _ROTATION]) if spec.rotation else nothing.rotation,
        scale=jnp.exp(spec.scaling * (2.0 * uniforms[..., _SCALE] - 1.0)),
        jitter=spec.jitter * ones,
        noise=_seeds(uniforms[..., _NOISE]),
        dropping=spec.dropping * ones,
        left_out=_seeds(uniforms[..., _LEFT_OUT]),
    )


def cloud_identity(leading_shape: tuple[int, ...] = ()) -> CloudAugmentation:
    """What leaves clouds as they are."""
    zeros, seeds = jnp.zeros(leading_shape), jnp.zeros((*leading_shape, 2), jnp.uint32)
    rotation = jnp.broadcast_to(jnp.eye(3), (*leading_shape, 3, 3))
    return CloudAugmentation(rotation, zeros + 1.0, zeros, seeds, zeros, seeds)


def haar_rotation(uniforms: jax.Array) -> jax.Array:
    """Three uniform numbers -> a rotation, uniform over SO(3) by Haar measure: of a uniform unit quaternion.

    Args:
      uniforms: [..., 3] in [0, 1).

    Returns:
      [..., 3, 3].

    Source: Shoemake, "Uniform random rotations" (Graphics Gems III, 1992).
    """
    first, second, third = (uniforms[..., i] for i in range(3))
    near, far = jnp.sqrt(1.0 - first), jnp.sqrt(first)
    x, y = near * jnp.sin(2 * jnp.pi * second), near * jnp.cos(2 * jnp.pi * second)
    z, w = far * jnp.sin(2 * jnp.pi * third), far * jnp.cos(2 * jnp.pi * third)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def axis_rotation(axis: jax.Array, angle: jax.Array) -> jax.Array:
    """Rotations about an axis (Rodrigues' formula).

        R = I + sin(t) K + (1 - cos(t)) K^2,    K v = axis x v

    Args:
      axis: unit vectors, [..., 3].
      angle: t, radians, [...]; counter-clockwise seen against the axis.

    Returns:
      [..., 3, 3].
    """
    x, y, z = (axis[..., i] for i in range(3))
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    sine, cosine = (function(angle)[..., None, None] for function in (jnp.sin, jnp.cos))
    squared = jnp.einsum("...ij,...jk->...ik", cross, cross, precision="highest")
    return jnp.eye(3) + sine * cross + (1.0 - cosine) * squared


def apply_cloud(augmentation: CloudAugmentation, clouds: jax.Array, spec: CloudSpec) -> jax.Array:
    """Turn, scale, jitter, leave out: in this order.

    Args:
      augmentation: leading shape [b], a row a cloud, or (), one shared by all.
      clouds: [b, n, 4]. Whatever stands in the coordinates of no point stays without effect, and becomes 0.
      spec: the ranges it was drawn from. What they leave off is not computed, so the augmentation's own value of it is
        ignored.

    Returns:
      [b, n, 4], of the clouds' type, float32 at least.

    Raises:
      ValueError: the clouds are not [..., n, 4].
    """
    if clouds.ndim < 2 or clouds.shape[-1] != 4:
        raise ValueError(f"clouds must be [..., n, 4]; got shape {tuple(clouds.shape)}")
    clouds = clouds.astype(jnp.promote_types(clouds.dtype, jnp.float32))
    is_point = clouds[..., 3] > 0
    points = jnp.where(is_point[..., None], clouds[..., :3], 0.0)
    # Where JAX has float64, what was drawn may be of that type; the views are of the clouds'.
    rotation, scale, jitter = (
        x.astype(points.dtype) for x in (augmentation.rotation, augmentation.scale, augmentation.jitter)
    )
    if spec.rotation:
        # In all of float32 everywhere: an accelerator would take fewer bits by default.
        points = jnp.einsum("...ij,...nj->...ni", rotation, points, precision="highest")
    if spec.scaling:
        points = points * scale[..., None, None]
    count = clouds.shape[-2]
    if spec.jitter:
        noise = _of_each(augmentation.noise, lambda key: jax.random.normal(key, (count, 3), points.dtype))
        points = points + jitter[..., None, None] * noise
    if spec.dropping:
        chances = _of_each(augmentation.left_out, lambda key: jax.random.uniform(key, (count,), jnp.float32))
        luckiest = jnp.where(is_point, chances, -1.0).max(axis=-1, keepdims=True)
        is_point = is_point & ((chances >= augmentation.dropping[..., None]) | (chances == luckiest))
    return jnp.where(is_point[..., None], jnp.concatenate([points, jnp.ones_like(points[..., :1])], axis=-1), 0.0)


def _seeds(uniforms: jax.Array) -> jax.Array:
    return jnp.floor(uniforms * np.float32(_SEEDS)).astype(jnp.uint32)


def _of_each(seeds: jax.Array, draw: Any) -> jax.Array:
    """`draw` of the key of each seed, [..., 2] -> [..., ...]."""
    keys = jax.random.wrap_key_data(seeds.reshape(-1, 2), impl="threefry2x32")
    drawn: jax.Array = jax.vmap(draw)(keys)
    return drawn.reshape(*seeds.shape[:-1], *drawn.shape[1:])
