"""The ways of a few inputs' embeddings while images' hue, images themselves, or clouds turn through a full circle."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.augment import CloudSpec
from care_jax.augment.clouds import axis_rotation
from care_jax.data import Examples
from care_jax.evaluate import planes
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.embedding_pictures import Orbit

# Images [n, h, w, 3] uint8 or clouds [n, L, 4], shares [n] of a full turn -> the same, turned.
Turn = Callable[[np.ndarray, np.ndarray], np.ndarray]
_STEPS = 24
_STILL = 1e-5  # of unit vectors: what float32 makes of nothing
WIDEST = 1024  # dimensions of which a rotation is fitted: it takes d^3


def turned_hue(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Images [n, h, w, 3] uint8 with their hue turned, by turns [n], 1 being the full circle."""
    return _pixels(_hue(images, turns))


def turned(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Images [n, h, w, 3] uint8 turned about their middle, counter-clockwise, by turns [n], 1 being the full circle."""
    return _pixels(_rotated(images, turns))


def turned_about(axis: np.ndarray) -> Turn:
    """What turns clouds [n, L, 4] about an axis, a unit vector [3] through the origin, counter-clockwise against it."""
    return lambda clouds, turns: np.asarray(_about(clouds, np.asarray(axis, np.float32), turns))


def orbit(
    embedder: Embedder,
    variables: Mapping[str, Any],
    inputs: np.ndarray,
    embeddings: np.ndarray,
    chosen: np.ndarray,
    change: Turn,
    *,
    turn: float,
    steps: int = _STEPS,
) -> Orbit | None:
    """Fits a rotation to one turn of all inputs, and follows the chosen ones around in the plane it moves most.

    Args:
      embedder: of the encoder.
      variables: its parameters and statistics.
      inputs: images [n, h, w, 3] uint8, or clouds [n, L, 4].
      embeddings: [n, d], of these.
      chosen: [q] which of them are followed.
      change: turns them.
      turn: share of the full circle that the rotation is fitted to.
      steps: of the full circle.

    Returns:
      Their ways; None where there is no plane, there are more than `WIDEST` dimensions, or an embedding is not finite.
    """
    if not 2 <= embeddings.shape[1] <= WIDEST:
        return None
    followed = np.repeat(chosen, steps)
    turns = np.concatenate([np.full(len(inputs), turn), np.tile(np.arange(steps) / steps, len(chosen))])
    changed = change(inputs[np.concatenate([np.arange(len(inputs)), followed])], turns.astype(np.float32))
    made = embedder(variables, Examples(images=changed)).embeddings
    moved, ways = made[: len(inputs)], made[len(inputs) :]
    if not all(np.isfinite(x).all() for x in (embeddings, moved, ways)):
        return None
    found = planes.planes(planes.fitted(embeddings, moved))
    best = planes.most_moving(found, embeddings)
    coordinates = ways.reshape(len(chosen), steps, -1) @ found.bases[best]
    energy = planes.energies(embeddings, found.bases[best : best + 1])[0]
    return Orbit(coordinates, float(found.angles[best]), float(energy), turn)


class Circle(NamedTuple):
    """How nearly ways in a plane are circles, each about its own middle, m = mean_t x_t; means over the ways.

    Attributes:
      roundness: 1 - std_t |x_t - m| / mean_t |x_t - m|. 1 of a circle, however large and however often it is gone
        round; 0.52 of a line that is gone to and fro, as a circle is seen from its side; 1 - sqrt(4 / pi - 1) = 0.48 of
        normal noise, however small.
      radius: mean_t |x_t - m|.
    """

    roundness: float
    radius: float


def circle(coordinates: np.ndarray) -> Circle | None:
    """Of ways [q, t, 2], evenly spaced over a full turn; None where one does not move by more than rounding."""
    coordinates = np.asarray(coordinates, np.float64)
    distances = np.linalg.norm(coordinates - coordinates.mean(axis=1, keepdims=True), axis=-1)
    radii = distances.mean(axis=1)
    if (radii <= _STILL).any():
        return None
    return Circle(float(np.mean(1.0 - distances.std(axis=1) / radii)), float(radii.mean()))


def _pixels(images: jax.Array) -> np.ndarray:
    return np.round(np.asarray(images) * 255.0).astype(np.uint8)


@jax.jit
def _hue(images: jax.Array, turns: jax.Array) -> jax.Array:
    return augment.color.adjust_hue(images.astype(jnp.float32) / 255.0, turns)


@jax.jit
def _rotated(images: jax.Array, turns: jax.Array) -> jax.Array:
    return augment.geometry.rotate_and_translate(images.astype(jnp.float32) / 255.0, 2.0 * jnp.pi * turns, 0.0, 0.0)


@jax.jit
def _about(clouds: jax.Array, axis: jax.Array, turns: jax.Array) -> jax.Array:
    rotations = axis_rotation(jnp.broadcast_to(axis, (len(clouds), 3)), 2.0 * jnp.pi * turns)
    drawn = augment.cloud_identity((len(clouds),))._replace(rotation=rotations)
    return augment.apply_cloud(drawn, clouds, CloudSpec(rotation=True))
