"""Gamma, relative rotational equivariance, with what it needs to be read: quantiles, its null value, displacement."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from care_jax.metrics.heldout import Draws, checked, of_draws

MAX_PAIRWISE = 2048  # Above this many rows it is of the first ones: there are n^2 ratios.
_ROUNDED_ROWS = 512  # The first ones, whose pairs say how large the ratios of rounding are.
# Of gamma, what rounding of the last digit alone explains: a tenth of the changes, and what computed the embeddings
# rounds ten times as much.
_OF_ROUNDING = 0.01
_BLOCK = 128  # Rows of pairs in memory at a time.
_OF_THE_NULL = 0.01  # A gamma below this share of its null is read as none, whether it is rounding or not.


class Gamma(NamedTuple):
    """The ratio of `metrics.relative_equivariance` over all pairs of inputs and all draws: its quantiles, and its mean.

    Attributes:
      quantiles: quantile -> ratio; NaN where it is not known: see `relative_equivariance_quantiles`.
      permuted: the same of the null: every input with the f(a(x)) of another. A gamma near it says nothing.
      displacement: root mean square of |f(a(x)) - f(x)|. For random moves gamma grows as 1 / displacement^2.
      n: inputs that the ratios are of.
      mean: of the ratios; NaN where it is not known. Pairs that hardly moved rule it.
    """

    quantiles: dict[float, float]
    permuted: dict[float, float]
    displacement: float
    n: int
    mean: float


def relative_equivariance_quantiles(
    before: ArrayLike,
    after: Draws,
    quantiles: Sequence[float] = (0.25, 0.5, 0.75),
    *,
    seed: int = 0,
) -> Gamma:
    """Gamma's quantiles, its null value, and how far the embeddings moved, without which neither says anything.

    Computed in float64. The embeddings' own rounding counts for more the less they move: on unit rows of float32 by
    about (6e-8 / displacement^2)^2, which is above any null from a displacement of some 1e-4 down. So gamma is NaN
    where the last digits of the numbers given, float64 or float32, explain 1 % of it or more (what computed them rounds
    more, which cannot be told from them), unless it is below 1 % of its null, where it says the same either way.

    Args:
      before: f(x), [n, d]. Numbers that float32 holds are taken for rounded to it, whatever their type.
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
    generator, moved = np.random.default_rng((seed, 1)), []  # apart from the permutation
    own: list[np.ndarray] = []
    null: list[np.ndarray] = []
    rounded: list[np.ndarray] = []
    for fa in of_draws(name, "after", after, f.shape):
        moved.append(np.square(fa - f).sum(axis=1).mean())
        own.append(_ratios(f[:n], fa[:n]))
        null.append(_ratios(f[:n], fa[shuffled]))
        few = min(n, _ROUNDED_ROWS)
        rounded.append(_ratios(f[:few], fa[:few], _drawn_rounding(f, fa, few, generator)))

    def statistics(kept: list[np.ndarray]) -> np.ndarray:
        ratios = np.concatenate(kept)
        return np.append(np.quantile(ratios, quantiles), ratios.mean(dtype=np.float64))

    values, of_null, of_rounding = statistics(own), statistics(null), statistics(rounded)
    unknown = (of_rounding > _OF_ROUNDING * values) & (values > _OF_THE_NULL * of_null)
    *known, mean = np.where(unknown, np.nan, values)
    found, permuted = (
        {float(q): float(value) for q, value in zip(quantiles, row, strict=False)} for row in (known, of_null)
    )
    return Gamma(found, permuted, float(np.sqrt(np.mean(moved))), n, float(mean))


def _ratios(f: np.ndarray, fa: np.ndarray, rounding: np.ndarray | None = None) -> np.ndarray:
    """As `metrics.relative_equivariance_ratios`, in float64, of the pairs i < j; kept in float32, for they are many.

    Args:
      f, fa: [n, d].
      rounding: of the steps fa - f, [n, d]: the ratios are then of what it adds to the changes, beside the same motion.
    """
    # The ratio knows no scale, and squares do: by a power of two, which changes no digit, none is lost.
    largest = max(np.abs(f).max(), np.abs(fa).max())
    exponent = -int(np.frexp(largest)[1])
    f, fa = np.ldexp(f, exponent), np.ldexp(fa, exponent)
    step, total = fa - f, fa + f
    moved = np.square(step).sum(axis=1)
    step = step if rounding is None else np.ldexp(rounding, exponent)
    # ||fa_j - fa_i||^2 - ||f_j - f_i||^2 = (step_j - step_i)·(total_j - total_i): no two distances are subtracted. Nor
    # does what all have in common count, of which only digits would be lost.
    step, total = step - step.mean(axis=0), total - total.mean(axis=0)
    growth, found = (step * total).sum(axis=1), []
    for start in range(0, len(step), _BLOCK):
        rows, others = slice(start, start + _BLOCK), slice(start, None)
        change = growth[rows, None] + growth[others]
        change -= step[rows] @ total[others].T
        change -= total[rows] @ step[others].T
        lengths = moved[rows, None] + moved[others]
        np.divide(change, lengths, out=change, where=lengths != 0)
        change[lengths == 0] = 0.0  # neither moved: the distance is what it was
        with np.errstate(over="ignore"):
            ratios = np.square(change, out=change).astype(np.float32)
        found.append(ratios[np.triu(np.ones(ratios.shape, bool), 1)])
    return np.concatenate(found)


def _drawn_rounding(f: np.ndarray, fa: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    """What rounding may have done to the first rows of fa - f, [rows, d]: even over half a last digit up and down."""
    of_f, of_fa = (_last_digits(x)[:rows] * generator.uniform(-0.5, 0.5, (rows, x.shape[1])) for x in (f, fa))
    return of_f + of_fa


def _last_digits(x: np.ndarray) -> np.ndarray:
    """The last binary digit of each number as it was rounded: of float32's, where that holds all of them."""
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    return np.spacing(single).astype(np.float64) if (single == x).all() else np.spacing(x)
