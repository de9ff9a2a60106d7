"""How nearly an augmentation of the images is a rotation of their embeddings, over many drawn augmentations."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment, losses, metrics
from care_jax.augment import AugmentSpec
from care_jax.data import Examples
from care_jax.evaluate.embed import Embedder

# Above this many examples the pairwise measures use the first ones: n^2 ratios of 20 augmentations must fit in memory.
MAX_PAIRWISE = 2048


class Equivariance(NamedTuple):
    """One entry a drawn augmentation a; f is the embedding before, fa after.

    Of a single example, the Wahba errors (always 0: a rotation takes any direction to any other) and the relative
    equivariance, which is of pairs, are NaN.

    Attributes:
      displacement: root mean square of |fa - f|: how far the augmentation moved the embeddings.
      wahba: min over R in SO(d) of |F R' - Fa|, over sqrt(n): what the best rotation leaves of it.
      wahba_orthogonal: the same over O(d).
      relative: `metrics.relative_equivariance` of the pair.
      relative_median: median of its ratio over all pairs of all augmentations, one number.
      alignment: minus the mean cosine of f and fa.
      num_examples: n of the Wahba errors.
      num_pairwise: examples behind the relative equivariance, 0 where there is no pair.
    """

    displacement: np.ndarray
    wahba: np.ndarray
    wahba_orthogonal: np.ndarray
    relative: np.ndarray
    relative_median: float
    alignment: np.ndarray
    num_examples: int
    num_pairwise: int


@jax.jit
def _measure(f: jax.Array, fa: jax.Array) -> dict[str, jax.Array]:
    scale = f.shape[0] ** -0.5
    return {
        "displacement": jnp.linalg.norm(f - fa) * scale,
        "wahba": metrics.wahba(f, fa)[1] * scale,
        "wahba_orthogonal": metrics.wahba(f, fa, special=False)[1] * scale,
        "alignment": losses.alignment(f, fa),
    }


def draws(num_augmentations: int, seed: int) -> jax.Array:
    """Uniforms of the augmentations to measure, [num_augmentations, NUM_UNIFORMS]."""
    return jax.random.uniform(jax.random.key(seed), (num_augmentations, augment.NUM_UNIFORMS))


_relative = jax.jit(metrics.relative_equivariance)
_ratios = jax.jit(metrics.relative_equivariance_ratios)


def measure_equivariance(
    embedder: Embedder,
    variables: Mapping[str, Any],
    examples: Examples,
    spec: AugmentSpec,
    *,
    num_augmentations: int,
    seed: int,
    embeddings: np.ndarray | None = None,
) -> Equivariance:
    """Draws augmentations, applies each to ALL examples, and compares the embeddings before and after.

    Args:
      embedder: of the encoder.
      variables: its parameters and statistics.
      examples: n held-out images.
      spec: ranges to draw from; the equivariance branch's.
      num_augmentations: 20 in the paper's figure 5.
      seed: of the draws; the same for runs that are to be compared.
      embeddings: [n, d] of the examples unaugmented, if already known.

    Returns:
      The measures, one entry an augmentation.
    """
    if embeddings is None:
        embeddings = embedder(variables, examples).embeddings
    rows: list[dict[str, Any]] = []
    ratios = []
    few = embeddings[:MAX_PAIRWISE]
    paired = len(few) > 1
    off_diagonal = ~np.eye(len(few), dtype=bool)
    for draw in draws(num_augmentations, seed):
        moved = embedder(variables, examples, draw, spec).embeddings
        row = dict(jax.device_get(_measure(embeddings, moved)))
        if paired:
            row["relative"] = float(_relative(few, moved[:MAX_PAIRWISE]))
            ratios.append(np.asarray(_ratios(few, moved[:MAX_PAIRWISE]))[off_diagonal])
        else:
            row |= dict.fromkeys(("wahba", "wahba_orthogonal", "relative"), math.nan)
        rows.append(row)
    columns = {name: np.asarray([row[name] for row in rows], np.float64) for name in rows[0]}
    return Equivariance(
        **columns,
        relative_median=float(np.median(np.concatenate(ratios))) if paired else math.nan,
        num_examples=len(embeddings),
        num_pairwise=len(few) if paired else 0,
    )
