"""Nearest neighbours of an image before and after its hue changes (figure 9 of the paper)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.data import Examples
from care_jax.evaluate.embed import Embedder
from care_jax.models import normalize


class Retrieval(NamedTuple):
    """Neighbours of q queries among a bank of n images.

    Attributes:
      queries: [q, h, w, 3] float32 in [0, 1], before the change.
      changed: [q, h, w, 3], after it.
      before: [q, k] rows of the bank nearest to the query, nearest first.
      after: [q, k] rows nearest to the changed query.
    """

    queries: np.ndarray
    changed: np.ndarray
    before: np.ndarray
    after: np.ndarray


def hue_retrieval(
    embedder: Embedder,
    variables: Mapping[str, Any],
    bank_images: np.ndarray,
    bank_embeddings: np.ndarray,
    query_rows: np.ndarray,
    *,
    k: int = 5,
    turns: float = 1 / 3,
) -> Retrieval:
    """Looks images up by the cosine of their embeddings, as they are and with their hue turned.

    Args:
      embedder: of the encoder.
      variables: its parameters and statistics.
      bank_images: [n, h, w, 3] uint8.
      bank_embeddings: [n, d], of these images.
      query_rows: [q] which of them are looked up; an image is no neighbour of its own.
      k: neighbours; fewer where the bank has not as many others.
      turns: of the hue circle; a third makes red green.
    """
    images = bank_images[query_rows].astype(np.float32) / np.float32(255.0)
    changed = np.asarray(_turn(images, turns))
    nearest = []
    for version in (images, changed):
        pixels = np.round(version * 255.0).astype(np.uint8)
        embeddings = embedder(variables, Examples(images=pixels)).embeddings
        order = np.asarray(_by_similarity(embeddings, bank_embeddings, query_rows))
        nearest.append(order[:, : min(k, len(bank_embeddings) - 1)])
    return Retrieval(images, changed, *nearest)


def share_following(
    queries: np.ndarray, bank: np.ndarray, own: np.ndarray, labels: np.ndarray, wanted: np.ndarray, *, k: int
) -> float:
    """The share of the queries' nearest neighbours that have the wanted label.

    Args:
      queries: unit rows [q, d].
      bank: unit rows [n, d].
      own: [q] rows of the bank that are the same inputs, and no neighbours.
      labels: [n], of the bank.
      wanted: [q].
      k: neighbours in cosine; fewer where the bank has not as many others.

    Returns:
      In [0, 1], mean over queries and neighbours.
    """
    similarity = queries @ bank.T
    similarity[np.arange(len(own)), own] = -np.inf
    k = min(k, len(bank) - 1)
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    return float(np.mean(labels[nearest] == wanted[:, None]))


_turn = jax.jit(augment.color.adjust_hue)


@jax.jit
def _by_similarity(queries: jax.Array, bank: jax.Array, own: jax.Array) -> jax.Array:
    """Rows of the bank [q, n], the most similar first; each query's own row is the last."""
    similarity = queries @ normalize(bank).T
    return jnp.argsort(-similarity.at[jnp.arange(len(own)), own].set(-jnp.inf), axis=-1)
