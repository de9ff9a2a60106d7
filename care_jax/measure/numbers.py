"""The numbers of one augmentation, from the embeddings before and after it; as they stand in measure.json."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from care_jax.metrics import motion

# The headline: 1 - W^2 / D^2 on images that the rotation was not fitted to.
SHARE = "rotation_share_explained"
KINDS: tuple[motion.Kind, ...] = ("rotation", "orthogonal", "linear")
_LARGEST = 5
# Of the length of the embeddings: what moves them less is float32's rounding, not the augmentation.
_ROUNDING = 1e-5
_QUANTILES = tuple(i / 20 for i in range(21))

Numbers = dict[str, Any]


def estimate(found: motion.Estimate | None) -> Numbers | None:
    """{mean, low, high, n}; None where there is none. What is not finite is None too: JSON has no word for it."""
    if found is None:
        return None
    return {name: value if np.isfinite(value) else None for name, value in found._asdict().items()}


def of_pair(before: np.ndarray, after: np.ndarray, *, seed: int = 0) -> Numbers:
    """All that is measured of one augmentation at one strength.

    Args:
      before: f(x), [n, d].
      after: f(a(x)), [n, d].
      seed: of halves and bootstraps.
    """
    d = before.shape[1]
    before, (after,) = _in_span(before, [after])
    shares: dict[str, motion.Estimate | None] = dict.fromkeys((*KINDS, "centred", "permuted"))
    if moves(before, after):
        for kind in KINDS:
            shares[kind] = motion.share_explained(before, after, kind=kind, seed=seed)
        shares["centred"] = motion.share_explained(before, after, centred=True, seed=seed)
        shares["permuted"] = motion.share_explained(before, after, permuted=True, seed=seed)
    found: Numbers = {f"{kind}_share_explained": estimate(share) for kind, share in shares.items()}
    gamma = motion.relative_equivariance_quantiles(before, after, seed=seed)
    angles = motion.rotation_angles(motion.best_map(before, after))
    angles = np.pad(angles, (0, d // 2 - len(angles)))
    return found | {
        "displacement": gamma.displacement,
        "relative_equivariance": {
            "quantiles": _named(gamma.quantiles.items()),
            "permuted": _named(gamma.permuted.items()),
            "n": gamma.n,
        },
        "angles": {
            "largest": angles[:_LARGEST].tolist(),
            "quantiles": _named(zip(_QUANTILES, np.quantile(angles, _QUANTILES), strict=True) if len(angles) else ()),
        },
        "follow_prediction": {
            name: estimate(one) for name, one in motion.follow_prediction(before, after, seed=seed).items()
        },
    }


def pooled(before: np.ndarray, draws: Sequence[np.ndarray], *, seed: int = 0) -> Numbers | None:
    """The share of all that several strengths do that a rotation for each explains; None where none of them moves."""
    moving = [after for after in draws if moves(before, after)]
    if not moving:
        return None
    before, moving = _in_span(before, moving)
    return estimate(motion.share_explained(before, moving, seed=seed))


def _in_span(before: np.ndarray, draws: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The same rows in a basis of the space that they all lie in, where that is smaller: nothing turns outside it.

    Args:
      before: [n, d].
      draws: m of [n, d].

    Returns:
      Both with min(d, (m + 1) n) columns; distances and inner products are what they were.
    """
    stacked = np.concatenate([before, *draws]).astype(np.float64)
    if before.shape[1] <= len(stacked):
        return before, list(draws)
    basis = np.linalg.qr(stacked.T)[0]
    return before @ basis, [after @ basis for after in draws]


def moves(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether there is motion to explain: more than float32's rounding."""
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    return bool(np.linalg.norm(after - before) > _ROUNDING * np.linalg.norm(before))


def over(shares: Iterable[Numbers | None]) -> Numbers | None:
    """The mean over augmentations, each with equal weight; None where none of them moves anything.

    The interval is the mean of theirs, on the wide side: it takes them to be off in the same direction.
    """
    known = [share for share in shares if share is not None]
    if not known:
        return None
    found: Numbers = {}
    for name in ("mean", "low", "high"):
        values = [share[name] for share in known]
        found[name] = None if None in values else float(np.mean(values))
    return found | {"n": min(share["n"] for share in known)}


def parameter(before: np.ndarray, after: np.ndarray, strengths: np.ndarray, *, seed: int = 0) -> Numbers:
    """R^2 of the strength, regressed from pairs with a strength of their own, [n].

    Returns:
      "linear" and "mlp".
    """
    kinds: tuple[Literal["linear", "mlp"], ...] = ("linear", "mlp")
    found: Numbers = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of scikit-learn: a network that still learns at its last step
        for kind in kinds:
            explained = motion.parameters_explained(before, after, {"strength": strengths}, kind=kind, seed=seed)
            found[kind] = estimate(explained["strength"])
    return found


def _named(quantiles: Iterable[tuple[float, Any]]) -> dict[str, float]:
    return {f"{quantile:g}": float(value) for quantile, value in quantiles}
