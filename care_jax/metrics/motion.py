"""How much of what an augmentation does to embeddings one map explains: judged on inputs that it was not fitted to.

`before` [n, d] holds the embeddings f(x_i) in rows, `after` [n, d] those of the augmented inputs, f(a(x_i)); or `after`
is several draws of augmentations, [a, n, d] or any iterable of [n, d], each with a map of its own. Arrays of NumPy or
of JAX, or nested lists, of any type of number; NumPy computes in float64, on the host. Every number is held out: the
inputs are cut into random halves, what is fitted on one is judged on the other, both ways. Intervals are 95 %
bootstraps of the inputs, the same ones for all draws, with the maps as they are: they say how far the number is known
for these maps, not how far other maps would be.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jax.typing import ArrayLike

from care_jax.metrics.gamma import Gamma, relative_equivariance_quantiles
from care_jax.metrics.heldout import Draws, Estimate, checked, halves, interval, of_draws, on_few_threads
from care_jax.metrics.parameters import parameters_explained

__all__ = [
    "Estimate",
    "Gamma",
    "best_map",
    "composition",
    "follow_prediction",
    "parameters_explained",
    "relative_equivariance_quantiles",
    "rotation_angles",
    "share_explained",
]

Kind = Literal["rotation", "orthogonal", "linear"]
_BLOCK = 2**22  # Distances in memory at a time: 32 MiB.
# A direction in which nothing was fitted stays as it is: this much of the identity, relative to the norm of
# fa' f, decides there and nowhere that float32 embeddings say anything.
_STAY = 1e-10
_ROUNDING = 1e-28  # Of the squared length of the embeddings: what float64 leaves of a mean that was taken away.


@on_few_threads
def best_map(before: ArrayLike, after: ArrayLike, *, kind: Kind = "rotation") -> np.ndarray:
    """The map that best carries `before` to `after`, on all of the rows.

        A = argmin ||before A' - after||_F   over SO(d), O(d), or all matrices

    Where rows leave directions open (fewer than d independent ones), the best map that is nearest to the identity: what
    was not seen stays. `care_jax.metrics.wahba` is the same in float32, differentiable, with any of the best.

    Args:
      before, after: [n, d].
      kind: "rotation" for SO(d), "orthogonal" for O(d), "linear" for least squares.

    Returns:
      A, [d, d]: `after` is close to `before @ A.T`.

    Raises:
      ValueError: another kind; shapes that differ or are not [n, d]; n < 4; numbers that are not finite.
    """
    _check_kind("best_map", kind)
    return _fitted(checked("best_map", "before", before), checked("best_map", "after", after, np.shape(before)), kind)


@on_few_threads
def share_explained(
    before: ArrayLike,
    after: Draws,
    *,
    kind: Kind = "rotation",
    seed: int = 0,
    bootstraps: int = 1000,
    permuted: bool = False,
    centred: bool = False,
) -> Estimate | None:
    """The share of the motion that one map explains, on inputs that it was not fitted to.

        1 - sum |A f(x) - f(a(x))|^2 / sum |f(x) - f(a(x))|^2        sums over held-out x and over draws a

    1: the map does all that the augmentation does. 0: it does no better than no map. Below 0: worse, as a map fitted to
    few inputs in many dimensions is. Embeddings that have nothing to do with each other, and no mean, have 0. Where the
    embeddings have a common mean that moves, a rotation that carries the mean along explains that: `centred` tells what
    it explains of the rest.

    Args:
      before: f(x), [n, d].
      after: f(a(x)), [n, d], or several draws.
      kind: as of `best_map`.
      seed: of the halves and the bootstrap.
      bootstraps: resamples behind the interval.
      centred: f(x) and f(a(x)) less their means over the half that is fitted on.
      permuted: the null instead: within each half every input gets another's f(a(x)), before anything is fitted.

    Returns:
      The share; None where nothing moves.

    Raises:
      ValueError: as of `best_map`; no draw at all; bootstraps < 1.

    Example:
      >>> import numpy as np
      >>> f, quarter_turn = np.random.default_rng(0).normal(size=(100, 2)), np.array([[0.0, -1.0], [1.0, 0.0]])
      >>> print(round(share_explained(f, f @ quarter_turn.T).mean, 6), round(share_explained(f, -2 * f).mean, 3))
      1.0 0.889
    """
    _check_kind("share_explained", kind)
    f = checked("share_explained", "before", before)
    sums = np.zeros((len(f), 2))  # of each input: what the map leaves, what had moved
    folds = halves(len(f), seed)
    for fa in of_draws("share_explained", "after", after, f.shape):
        pairs = [(rows, np.roll(rows, 1) if permuted else rows) for rows in folds]
        for (fitted, fitted_to), (judged, judged_by) in (pairs, pairs[::-1]):
            means = (f[fitted].mean(axis=0), fa[fitted_to].mean(axis=0)) if centred else (0.0, 0.0)
            found = _fitted(f[fitted] - means[0], fa[fitted_to] - means[1], kind)
            start, target = f[judged] - means[0], fa[judged_by] - means[1]
            sums[judged, 0] += np.square(start @ found.T - target).sum(axis=1)
            sums[judged, 1] += np.square(start - target).sum(axis=1)
    if sums[:, 1].sum() <= _ROUNDING * np.square(f).sum():
        return None
    return interval(sums, lambda left, moved: 1.0 - left / moved, seed=seed, bootstraps=bootstraps)


@on_few_threads
def rotation_angles(rotation: ArrayLike) -> np.ndarray:
    """The angles by which a rotation turns its planes.

    Args:
      rotation: [d, d], orthogonal.

    Returns:
      [d // 2] in degrees, 0 to 180, largest first. Of a reflection the lone eigenvalue -1, which has no partner, counts
      as one half turn: where d is odd its planes leave none out for that, and there are (d + 1) // 2.

    Raises:
      ValueError: not square, not finite, or not orthogonal to 1e-3.
    """
    rotation = np.asarray(rotation, np.float64)
    if rotation.ndim != 2 or rotation.shape[0] != rotation.shape[1]:
        raise ValueError(f"rotation_angles: rotation must be [d, d]; got {list(rotation.shape)}")
    if not np.isfinite(rotation).all() or np.abs(rotation @ rotation.T - np.eye(len(rotation))).max(initial=0) > 1e-3:
        raise ValueError("rotation_angles: rotation is not orthogonal to 1e-3")
    # Eigenvalues come in pairs exp(+-i angle): in order of the angle, every second is one of a pair. The last of an odd
    # number is a rotation's lone 1, but a pair's where the lone one is -1.
    angles = np.sort(np.abs(np.angle(np.linalg.eigvals(rotation))))[::-1]
    reflects = np.linalg.slogdet(rotation)[0] < 0
    return np.degrees(angles[::2][: (len(rotation) + reflects) // 2])


@on_few_threads
def follow_prediction(
    before: ArrayLike, after: Draws, *, hits: Sequence[int] = (1, 5), seed: int = 0, bootstraps: int = 1000
) -> dict[str, Estimate]:
    """Whether a rotation fitted on other inputs finds f(a(x)) from f(x).

        rank of x = number of held-out x' with |R f(x) - f(a(x'))| <= |R f(x) - f(a(x))|        1 is best

    Euclidean distances; ties count against, to twelve digits. By chance, of m = n / 2 inputs: hit at k is k / m, the
    mean reciprocal rank (1 + 1/2 + ... + 1/m) / m. Also high where nothing moves: see it beside the displacement.

    Args:
      before: f(x), [n, d].
      after: f(a(x)), [n, d], or several draws.
      hits: the k.
      seed, bootstraps: as of `share_explained`.

    Returns:
      "mean_reciprocal_rank", and "hit_at_k" for each k: the share of the inputs with rank k or better.

    Raises:
      ValueError: as of `share_explained`; a k below 1.

    Source: Garrido, Najman and LeCun 2023 (SIE), which ranks so the predictions of a network.
    """
    if any(k < 1 for k in hits):
        raise ValueError(f"follow_prediction: hits must be 1 or more; got {list(hits)}")
    f = checked("follow_prediction", "before", before)
    scores = np.zeros((len(f), 1 + len(hits)))
    folds, num_draws = halves(len(f), seed), 0
    for fa in of_draws("follow_prediction", "after", after, f.shape):
        num_draws += 1
        for fitted, judged in (folds, folds[::-1]):
            ranks = _ranks(f[judged] @ _fitted(f[fitted], fa[fitted], "rotation").T, fa[judged])
            scores[judged] += np.stack([1.0 / ranks, *(ranks <= k for k in hits)], axis=1)
    names = ("mean_reciprocal_rank", *(f"hit_at_{k}" for k in hits))
    ones = np.full(len(f), float(num_draws))
    return {
        name: interval(np.stack([column, ones], axis=1), np.divide, seed=seed, bootstraps=bootstraps)
        for name, column in zip(names, scores.T, strict=True)
    }


@on_few_threads
def composition(
    before: ArrayLike, first: Draws, second: Draws, both: Draws, *, seed: int = 0, bootstraps: int = 1000
) -> Estimate:
    """How far the rotations of two augmentations, one after the other, miss what both do: on other inputs.

        sqrt( sum |R_b R_a f(x) - f(b(a(x)))|^2 / sum |f(b(a(x)))|^2 )

    As `care_jax.metrics.composition_error`: on unit rows 0 is exact, sqrt(2) what unrelated directions give.

    Args:
      before: f(x), [n, d].
      first: f(a(x)), [n, d], or several draws; R_a is fitted to it.
      second: f(b(x)), as many; R_b is fitted to it.
      both: f(b(a(x))), a first, as many.
      seed, bootstraps: as of `share_explained`.

    Raises:
      ValueError: as of `share_explained`; different numbers of draws; `both` is all zero.
    """
    f = checked("composition", "before", before)
    drawn = [
        of_draws("composition", *given, f.shape) for given in (("first", first), ("second", second), ("both", both))
    ]
    sums, folds = np.zeros((len(f), 2)), halves(len(f), seed)
    for draws in itertools.zip_longest(*drawn):
        if any(draw is None for draw in draws):
            raise ValueError("composition: first, second and both must have as many draws; one has fewer")
        fa, fb, fba = draws
        for fitted, judged in (folds, folds[::-1]):
            turned = f[judged]
            for image in (fa, fb):
                turned = turned @ _fitted(f[fitted], image[fitted], "rotation").T
            sums[judged, 0] += np.square(turned - fba[judged]).sum(axis=1)
            sums[judged, 1] += np.square(fba[judged]).sum(axis=1)
    if not sums[:, 1].any():
        raise ValueError("composition: both is all zero")
    return interval(sums, lambda left, length: np.sqrt(left / length), seed=seed, bootstraps=bootstraps)


def _check_kind(name: str, kind: str) -> None:
    if kind not in ("rotation", "orthogonal", "linear"):
        raise ValueError(f"{name}: kind must be rotation, orthogonal or linear; got {kind!r}")


def _fitted(f: np.ndarray, fa: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "linear":
        # I + the smallest map that does the rest. By f' f, [d, d]: n may be many times d.
        values, vectors = np.linalg.eigh(f.T @ f)
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
        seen = vectors[:, kept]
        return np.eye(len(values)) + ((fa - f).T @ (f @ seen)) / values[kept] @ seen.T
    cross = fa.T @ f
    u, _, vt = np.linalg.svd(cross + _STAY * np.linalg.norm(cross) * np.eye(len(cross)))
    if kind == "rotation" and np.linalg.slogdet(u)[0] * np.linalg.slogdet(vt)[0] < 0:
        u[:, -1] *= -1  # the direction that costs least
    return u @ vt


def _ranks(predicted: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Of each prediction, [m]: how many candidates are as near as its own, which is the one in its row, or nearer."""
    lengths, ranks = np.square(candidates).sum(axis=1), np.empty(len(predicted), np.int64)
    step = max(1, _BLOCK // len(candidates))
    for start in range(0, len(predicted), step):
        rows = np.arange(start, min(start + step, len(predicted)))
        distances = lengths - 2.0 * predicted[rows] @ candidates.T  # squared, less what a row has in common
        slack = 1e-12 * (np.square(predicted[rows]).sum(axis=1) + lengths[rows])
        ranks[rows] = (distances <= (distances[np.arange(len(rows)), rows] + slack)[:, None]).sum(axis=1)
    return ranks
