"""The ways of a few images' embeddings while the images' hue, or the images themselves, turn through a full circle."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.data import Examples
from care_jax.evaluate import planes
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.embedding_pictures import Orbit

Turn = Callable[[np.ndarray, np.ndarray], np.ndarray]  # images [n, h, w, 3] uint8, shares [n] of a full turn -> turned
_STEPS = 24
WIDEST = 1024  # dimensions of which a rotation is fitted: it takes d^3


def turned_hue(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Images [n, h, w, 3] uint8 with their hue turned, by turns [n], 1 being the full circle."""
    return _pixels(_hue(images, turns))


def turned(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Images [n, h, w, 3] uint8 turned about their middle, counter-clockwise, by turns [n], 1 being the full circle."""
    return _pixels(_rotated(images, turns))


def orbit(
    embedder: Embedder,
    variables: Mapping[str, Any],
    images: np.ndarray,
    embeddings: np.ndarray,
    chosen: np.ndarray,
    change: Turn,
    *,
    turn: float,
) -> Orbit | None:
    """Fits a rotation to one turn of all images, and follows the chosen ones around in the plane it moves most.

    Args:
      embedder: of the encoder.
      variables: its parameters and statistics.
      images: [n, h, w, 3] uint8.
      embeddings: [n, d], of these images.
      chosen: [q] which of them are followed.
      change: turns images.
      turn: share of the full circle that the rotation is fitted to.

    Returns:
      Their ways; None where there is no plane, there are more than `WIDEST` dimensions, or an embedding is not finite.
    """
    if not 2 <= embeddings.shape[1] <= WIDEST:
        return None
    followed = np.repeat(chosen, _STEPS)
    turns = np.concatenate([np.full(len(images), turn), np.tile(np.arange(_STEPS) / _STEPS, len(chosen))])
    changed = change(images[np.concatenate([np.arange(len(images)), followed])], turns.astype(np.float32))
    made = embedder(variables, Examples(images=changed)).embeddings
    moved, ways = made[: len(images)], made[len(images) :]
    if not all(np.isfinite(x).all() for x in (embeddings, moved, ways)):
        return None
    found = planes.planes(planes.fitted(embeddings, moved))
    best = planes.most_moving(found, embeddings)
    coordinates = ways.reshape(len(chosen), _STEPS, -1) @ found.bases[best]
    energy = planes.energies(embeddings, found.bases[best : best + 1])[0]
    return Orbit(coordinates, float(found.angles[best]), float(energy), turn)


def _pixels(images: jax.Array) -> np.ndarray:
    return np.round(np.asarray(images) * 255.0).astype(np.uint8)


@jax.jit
def _hue(images: jax.Array, turns: jax.Array) -> jax.Array:
    return augment.color.adjust_hue(images.astype(jnp.float32) / 255.0, turns)


@jax.jit
def _rotated(images: jax.Array, turns: jax.Array) -> jax.Array:
    return augment.geometry.rotate_and_translate(images.astype(jnp.float32) / 255.0, 2.0 * jnp.pi * turns, 0.0, 0.0)
