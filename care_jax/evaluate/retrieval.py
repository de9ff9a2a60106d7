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
    images = np.asarray(augment.unit_range(bank_images[query_rows]))
    changed = np.asarray(jax.jit(augment.color.adjust_hue)(images, turns))
    bank = normalize(jnp.asarray(bank_embeddings))
    nearest = []
    for version in (images, changed):
        pixels = np.round(version * 255.0).astype(np.uint8)
        embeddings = embedder(variables, Examples(images=pixels)).embeddings
        similarity = jnp.asarray(embeddings) @ bank.T
        similarity = similarity.at[jnp.arange(len(query_rows)), query_rows].set(-jnp.inf)
        nearest.append(np.asarray(jnp.argsort(-similarity, axis=-1)[:, : min(k, len(bank) - 1)]))
    return Retrieval(images, changed, *nearest)
