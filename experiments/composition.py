"""Whether rotations compose as the augmentations do (the paper's Corollary 1), and steer embeddings, held out.

    python -m experiments.care_vs_simclr
    python -m experiments.composition                                       # of runs/care_vs_simclr
    python -m experiments.composition --workdir=runs/proteins_table         # clouds of points: turns about one axis

Composition: of pairs of draws of the evaluation, R_b R_a beside R_ba, fitted to f(b(a(x))) itself. Steering: R_a f(x)
beside f(a(x)), a the hue, or a turn, at several strengths. Inverse: R_a' f(x) beside f(a^-1(x)); undoing: R_a' f(a(x))
beside f(a^-1(a(x))), which is steering again where a^-1 a loses nothing of x. Every rotation is fitted to one half of
the test inputs and judged on the other, both ways. The table goes to standard output, all numbers to
`composition.json`, the shares over the strengths to `composition.png`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from care_jax.command_line import UsageError
from care_jax.data import Examples
from care_jax.embed.queries import inputs as all_inputs
from care_jax.evaluate import equivariance_error, plots
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.strengths import spec_of, sweeps_of, views
from care_jax.metrics.heldout import halves
from care_jax.metrics.motion import best_map
from experiments import analysis
from experiments.analysis import Analysis
from experiments.finished import Finished, FinishedTable

PAIRS = 4  # of draws
MOST = 1024  # test inputs that are steered, the first ones
STEERED = ("hue", "rotation")  # of the sweeps: those of which -s undoes s
_WAYS = {
    "steering": "R_a f(x) beside f(ax)",
    "inverse": "R_a' f(x) beside f(a^-1 x)",
    "undoing": "R_a' f(ax) beside f(a^-1 a x)",
}
_OF_PAIRS = {
    "matrices": Measure(
        "|R_b R_a - R_ba| / |R_ba|, Frobenius, root mean square over pairs of draws",
        better="lower",
        chance="sqrt(2): unrelated rotations; directions in which no embedding lies count as any other",
        heading="R_b R_a against R_ba",
    ),
    "matrices_of_halves": Measure(
        "the same of two R_ba, each fitted to another half of the inputs: how far R_ba is known at all",
        heading="R_ba against R_ba",
    ),
    "composed": Measure(
        "1 - sum |R_b R_a f(x) - f(bax)|^2 / sum |f(x) - f(bax)|^2, held out",
        better="higher",
        chance="0: no better than no map",
        heading="R_b R_a, share explained",
    ),
    "fitted": Measure("the same of R_ba", better="higher", heading="R_ba, share explained"),
    "embeddings": Measure(
        "|(R_b R_a - R_ba) f(x)| / |f(x)| over held-out x: as the first, where embeddings lie",
        better="lower",
        heading="R_b R_a f against R_ba f",
    ),
}


def measures(sweeps: Sequence[str]) -> dict[str, Measure]:
    """The columns, for inputs that are steered by these."""
    found = dict(_OF_PAIRS)
    for name in sweeps:
        for way, words in _WAYS.items():
            meaning = f"share of the motion explained, {words}, a: {name}; held out, mean over strengths"
            found[f"{name}_{way}"] = Measure(meaning, better="higher", chance="0", heading=f"{name}, {way}")
    return found


def of_pair(f: np.ndarray, fa: np.ndarray, fb: np.ndarray, fba: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Two augmentations and both, a first.

    Args:
      f, fa, fb, fba: f(x), f(a(x)), f(b(x)), f(b(a(x))), [n, d], n >= 8.
      seed: of the halves.

    Returns:
      As `measures` says them; a share of NaN where nothing moves.
    """
    f, fa, fb, fba = (np.asarray(array, np.float64) for array in (f, fa, fb, fba))
    folds, size, whole = halves(len(f), seed), f.shape[1], []
    matrices = apart = composed = fitted = 0.0
    for here, there in (folds, folds[::-1]):
        one, two, both = (best_map(f[here], after[here]) for after in (fa, fb, fba))
        whole.append(both)
        matrices += np.square(two @ one - both).sum() / size / 2
        by_two, by_one = f[there] @ (two @ one).T, f[there] @ both.T
        apart += np.square(by_two - by_one).sum()
        composed += np.square(by_two - fba[there]).sum()
        fitted += np.square(by_one - fba[there]).sum()
    moved = np.square(f - fba).sum()
    return {
        "matrices": math.sqrt(matrices),
        "matrices_of_halves": float(np.linalg.norm(whole[0] - whole[1])) / math.sqrt(size),
        "embeddings": math.sqrt(apart / np.square(f).sum()),
        "composed": _share(composed, moved),
        "fitted": _share(fitted, moved),
    }


def of_strength(
    f: np.ndarray, fa: np.ndarray, inverse: np.ndarray, undone: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """One augmentation a: what its rotation explains, forwards and backwards.

    Args:
      f, fa, inverse, undone: f(x), f(a(x)), f(a^-1(x)), f(a^-1(a(x))), [n, d], n >= 8.
      seed: of the halves.

    Returns:
      Shares "steering", "inverse" and "undoing", NaN where nothing moves; and the mean cosine of R_a f(x) and f(a(x)),
      "cosine", with that of f(x) and f(a(x)), "cosine_still".
    """
    f, fa, inverse, undone = (np.asarray(array, np.float64) for array in (f, fa, inverse, undone))
    # Of each way from where to where, and whether by R or R'.
    ways = {"steering": (f, fa, False), "inverse": (f, inverse, True), "undoing": (fa, undone, True)}
    left, cosine, folds = dict.fromkeys(ways, 0.0), 0.0, halves(len(f), seed)
    for here, there in (folds, folds[::-1]):
        rotation = best_map(f[here], fa[here])
        for way, (start, target, back) in ways.items():
            turned = start[there] @ (rotation if back else rotation.T)
            left[way] += np.square(turned - target[there]).sum()
        cosine += _cosines(f[there] @ rotation.T, fa[there]).sum() / len(f)
    shares = {way: _share(left[way], np.square(start - target).sum()) for way, (start, target, _) in ways.items()}
    return shares | {"cosine": float(cosine), "cosine_still": float(_cosines(f, fa).mean())}


def _share(left: float, moved: float) -> float:
    return float(1.0 - left / moved) if moved > 0 else math.nan


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def pairs_of(run: Finished) -> list[dict[str, float]]:
    """Of the draws 0 and 1, 2 and 3, ... of the evaluation what `of_pair` returns."""
    draws = equivariance_error.draws(run.embedded, run.model.config.evaluate)
    if len(draws) < 2:
        raise UsageError(f"{run.model.workdir} has evaluate.num_augmentations below 2, and no pair of draws")
    before = run.embedded.part("test").embeddings
    found = []
    for first in range(0, min(len(draws) - 1, 2 * PAIRS), 2):
        a, b = draws[first : first + 2]
        moved = (
            run.embedded.drawn(a, "equivariance"),
            run.embedded.drawn(b, "equivariance"),
            run.embedded.drawn(a, "equivariance", then=b),
        )
        _check(run, before, *moved)
        found.append(of_pair(before, *moved))
    return found


def steered(run: Finished, sweeps: Sequence[str]) -> dict[str, dict[float, dict[str, float]]]:
    """Augmentation -> strength -> what `of_strength` returns, of the test inputs at the strengths of each sweep."""
    embedded = run.embedded
    examples = embedded.experiment.dataset.test
    inputs = all_inputs(examples.take(np.arange(min(len(examples), MOST))), embedded.embedder.side)
    clouds = examples.clouds

    def changed(some: np.ndarray, name: str, strength: float) -> np.ndarray:
        largest = max(map(abs, sweeps_of(clouds)[name].strengths))
        spec = spec_of(name, largest, size=None if clouds else some.shape[1])
        made = np.asarray(views(jnp.asarray(some), jnp.full(len(some), strength), name=name, spec=spec))
        return made if clouds else np.round(255.0 * made).astype(np.uint8)

    def embed(some: np.ndarray) -> np.ndarray:
        return embedded.embedder(embedded.variables, Examples(images=some)).embeddings

    before = embed(inputs)
    found: dict[str, dict[float, dict[str, float]]] = {}
    for name in sweeps:
        for strength in sweeps_of(clouds)[name].strengths:
            there = changed(inputs, name, strength)
            after, inverse = embed(there), embed(changed(inputs, name, -strength))
            undone = embed(changed(there, name, -strength))
            _check(run, before, after, inverse, undone)
            found.setdefault(name, {})[strength] = of_strength(before, after, inverse, undone)
    return found


def _check(run: Finished, *embeddings: np.ndarray) -> None:
    if len(embeddings[0]) < 8:
        raise UsageError(f"{run.model.workdir} has {len(embeddings[0])} test inputs; 8 or more are cut into halves")
    if not all(np.isfinite(some).all() for some in embeddings):
        raise UsageError(f"{run.model.workdir}: embeddings are not finite; leave its row out with --only")


def summary(pairs: Sequence[Mapping[str, float]], strengths: Mapping[str, Mapping[float, Any]]) -> dict[str, float]:
    """The columns of the table: root mean squares of errors over pairs, means of shares."""
    found = {}
    for name in _OF_PAIRS:
        of = np.asarray([pair[name] for pair in pairs])
        found[name] = float(of.mean() if name in ("composed", "fitted") else np.sqrt(np.square(of).mean()))
    for name, of_strengths in strengths.items():
        found |= {f"{name}_{way}": float(np.mean([of[way] for of in of_strengths.values()])) for way in _WAYS}
    return found


def picture(details: Mapping[str, Mapping[str, Any]], numbers: analysis.Numbers, *, clouds: bool) -> Figure:
    """Shares explained: of compositions, and of each augmentation over its strength; mean and deviation over seeds."""
    sweeps = list(next(iter(next(iter(details.values())).values()))["strengths"])
    figure, axes = plots.panels(1, 1 + len(sweeps), 3.4, 3.2)
    first, *others = axes[0]
    looks = analysis.colours(list(details))
    for place, (row, of_seeds) in enumerate(details.items()):
        colour, marker = looks[row]
        of = [analysis.values(numbers, row, name) for name in ("fitted", "composed")]
        spread = [column.std(ddof=1) if len(column) > 1 else 0.0 for column in of]
        shift = 0.1 * (place - (len(details) - 1) / 2)
        first.errorbar(
            [shift, 1 + shift], [column.mean() for column in of], spread, fmt=marker, color=colour, label=row
        )
        for axis, name in zip(others, sweeps, strict=True):
            for way, line in (("steering", "-"), ("inverse", "--")):
                curves = np.asarray(
                    [[at[way] for at in seed["strengths"][name].values()] for seed in of_seeds.values()]
                )
                strengths = list(next(iter(of_seeds.values()))["strengths"][name])
                deviation = curves.std(axis=0, ddof=1) if len(curves) > 1 else None
                axis.errorbar(strengths, curves.mean(axis=0), deviation, fmt=marker + line, color=colour, markersize=4)
    first.set(title="two draws, held out", xticks=[0, 1], xlim=(-0.6, 1.6), ylabel="share explained")
    first.set_xticklabels(["R_ba", "R_b R_a"])
    for axis, name in zip(others, sweeps, strict=True):
        axis.set(title=f"{name}: R_a, dashed its inverse")
        axis.set_xlabel(sweeps_of(clouds)[name].meaning.partition(";")[0])
    for axis in axes[0]:
        axis.axhline(0.0, color=plots.GRAY, linestyle="--", linewidth=1.2)
    first.legend(frameon=False)
    return figure


def analyse(table: FinishedTable) -> Analysis:
    """Compositions and steering of every run."""
    details: dict[str, dict[str, Any]] = {}
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    sweeps: list[str] = []
    clouds = False
    for run in table.runs():
        clouds = run.embedded.experiment.dataset.clouds
        sweeps = [name for name in STEERED if name in sweeps_of(clouds)]
        pairs, strengths = pairs_of(run), steered(run, sweeps)
        details.setdefault(run.row, {})[run.seed] = {"pairs": pairs, "strengths": strengths}
        numbers.setdefault(run.row, {})[run.seed] = summary(pairs, strengths)
    compared = ("matrices", "composed", *(f"{name}_{way}" for name in sweeps for way in ("steering", "inverse")))
    return Analysis(measures(sweeps), numbers, compared, picture(details, numbers, clouds=clouds), details)


if __name__ == "__main__":
    analysis.start("composition", analyse)
