"""Gamma, relative rotational equivariance, with what it needs to be read: quantiles, its null value, displacement."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from care_jax.metrics.heldout import Draws, checked, of_draws
from care_jax.metrics.rotations import relative_equivariance_ratios

MAX_PAIRWISE = 2048  # Above this many rows it is of the first ones: there are n^2 ratios.


class Gamma(NamedTuple):
    """Quantiles of the ratio of `metrics.relative_equivariance` over all pairs of inputs and all draws.

    Attributes:
      quantiles: quantile -> ratio.
      permuted: the same of the null: every input with the f(a(x)) of another. A gamma near it says nothing.
      displacement: root mean square of |f(a(x)) - f(x)|. For random moves gamma grows as 1 / displacement^2.
      n: inputs that the ratios are of.
    """

    quantiles: dict[float, float]
    permuted: dict[float, float]
    displacement: float
    n: int


def relative_equivariance_quantiles(
    before: ArrayLike,
    after: Draws,
    quantiles: Sequence[float] = (0.25, 0.5, 0.75),
    *,
    seed: int = 0,
) -> Gamma:
    """Gamma's quantiles, its null value, and how far the embeddings moved, without which neither says anything.

    Args:
      before: f(x), [n, d].
      after: f(a(x)), [n, d], or several draws.
      quantiles: each in [0, 1].
      seed: of the null's permutation.

    Raises:
      ValueError: as of `share_explained`; a quantile outside [0, 1].
    """
    name = "relative_equivariance_quantiles"
    if not all(0 <= quantile <= 1 for quantile in quantiles):
        raise ValueError(f"{name}: quantiles must be in [0, 1]; got {list(quantiles)}")
    f = checked(name, "before", before)
    n = min(len(f), MAX_PAIRWISE)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = np.empty_like(order)
    shuffled[order] = np.roll(order, 1)  # nobody's own
    pairs, moved = np.triu_indices(n, 1), []
    ratios: list[list[np.ndarray]] = [[], []]
    for fa in of_draws(name, "after", after, f.shape):
        moved.append(np.square(fa - f).sum(axis=1).mean())
        for kept, rows in zip(ratios, (np.arange(n), shuffled), strict=True):
            kept.append(np.asarray(_ratios(f[:n].astype(np.float32), fa[rows].astype(np.float32)))[pairs])
    found = [np.quantile(np.concatenate(kept), quantiles) for kept in ratios]
    own, null = ({float(q): float(value) for q, value in zip(quantiles, row, strict=True)} for row in found)
    return Gamma(own, null, float(np.sqrt(np.mean(moved))), n)


_ratios = jax.jit(relative_equivariance_ratios)
