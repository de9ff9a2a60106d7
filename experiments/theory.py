"""The paper's Propositions 1 and 3 as numbers: what a rotation leaves, and what the equivariance loss says it may.

    python -m experiments.care_vs_simclr
    python -m experiments.theory                                            # of runs/care_vs_simclr

    # L_equi alone, driven down; its checkpoints are points on the way
    python -m experiments.care_vs_simclr --config.loss.method=none --weights=0.1 --workdir=runs/equivariance_alone \
--config.train.keep_last=50 --config.train.checkpoint_every_epochs=5.0
    python -m experiments.theory --workdir=runs/equivariance_alone --every_checkpoint

Proposition 3: min over R in O(d) of |F R' - Fa| <= (1 + sqrt 2) |pinv(F)| sqrt(loss summed over pairs), of each draw
of the evaluation, all test inputs. Proposition 1: the one goes to nothing with the other. The table (of the newest
checkpoints) goes to standard output, all numbers to `theory.json`, a point a draw to `theory.png`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from care_jax.command_line import UsageError
from care_jax.evaluate import equivariance_error, plots
from care_jax.evaluate.measure import Measure
from care_jax.metrics.procrustes import procrustes_bound
from experiments import analysis
from experiments.analysis import Analysis
from experiments.finished import Finished, FinishedTable

_SLACK = 1e-6  # of sqrt(n): what float32 embeddings leave of a residual that is 0
_DECADES = 300.0  # between the ends of an axis that has ticks at 1, 2 and 5
MEASURES = {
    "residual": Measure(
        "min over R in O(d) of |F R' - Fa| / sqrt(n), mean over draws", better="lower", heading="residual", decimals=4
    ),
    "displacement": Measure(
        "|F - Fa| / sqrt(n), mean over draws: an encoder that collapses, or is invariant, has no residual either",
        heading="displacement",
        decimals=4,
    ),
    "root_loss": Measure(
        "sqrt of the mean over pairs of (f_i·f_j - fa_i·fa_j)^2, mean over draws",
        better="lower",
        heading="root of the loss",
        decimals=4,
    ),
    "inverse": Measure(
        "|pinv(F)| sqrt(n): 1 / the least root-mean-square extent of the embeddings in a direction; at best sqrt(d)",
        heading="norm of pinv(F), times √n",
        decimals=1,
    ),
    "tightness": Measure("residual / bound, median over draws", heading="residual / bound", decimals=5),
    "within": Measure("draws with a residual under the bound", unit="%", heading="under the bound", decimals=1),
    "rank_correlation": Measure(
        "of residual and loss over the draws, Spearman's", better="higher", chance="0", heading="rank correlation"
    ),
}
COMPARED = ("residual", "root_loss")


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, ties by the mean of their ranks; NaN of fewer than two or of constants.

    >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.3, 0.2]))
    0.5
    """
    ranks = []
    for values in (one, other):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        ranks.append((last - (counts - 1) / 2)[inverse])
    centred = [rank - rank.mean() for rank in ranks]
    length = math.sqrt(float(np.square(centred[0]).sum() * np.square(centred[1]).sum()))
    return round(float(centred[0] @ centred[1]) / length, 12) if length else math.nan


def of_run(run: Finished) -> list[dict[str, float]]:
    """Of each draw of the evaluation both sides, in units of one input.

    Returns:
      "residual", "displacement", "root_loss" and "inverse" as the table says them, and "bound" of the residual; inf
      where F has a rank below d.

    Raises:
      UsageError: embeddings that are not finite, or fewer than 4 inputs.
    """
    before = run.embedded.part("test").embeddings
    n, found = len(before), []
    if n < 4:
        raise UsageError(f"{run.model.workdir} has {n} test inputs; the bound needs 4 or more")
    for draw in equivariance_error.draws(run.embedded, run.model.config.evaluate):
        after = run.embedded.drawn(draw, "equivariance")
        if not (np.isfinite(before).all() and np.isfinite(after).all()):
            raise UsageError(f"{run.model.workdir}: embeddings are not finite; leave its row out with --only")
        of = procrustes_bound(before, after)
        found.append(
            {
                "residual": of.residual / math.sqrt(n),
                "displacement": float(np.linalg.norm(np.float64(after) - before)) / math.sqrt(n),
                "root_loss": math.sqrt(of.loss) / n,
                "inverse": of.inverse * math.sqrt(n),
                "bound": of.bound / math.sqrt(n),
            }
        )
    return found


def summary(draws: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The columns of the table, of a run's draws; what is said of the bound is of the draws that have one."""
    of = {name: np.asarray([draw[name] for draw in draws]) for name in draws[0]}
    bounded = np.isfinite(of["bound"]) & (of["bound"] > 0)
    under = (of["residual"] <= of["bound"] + _SLACK)[np.isfinite(of["bound"])]
    return {
        "residual": float(of["residual"].mean()),
        "displacement": float(of["displacement"].mean()),
        "root_loss": float(of["root_loss"].mean()),
        "inverse": float(of["inverse"].mean()),
        "tightness": float(np.median((of["residual"] / of["bound"])[bounded])) if bounded.any() else math.nan,
        "within": 100.0 * float(under.mean()) if len(under) else math.nan,
        "rank_correlation": rank_correlation(of["residual"], of["root_loss"]),
    }


def verdict(points: Sequence[Mapping[str, float]]) -> str:
    """What all draws of all encoders say of the two propositions."""
    of = {name: np.asarray([point[name] for point in points]) for name in points[0]}
    said = np.isfinite(of["bound"])
    under = int((of["residual"] <= of["bound"] + _SLACK)[said].sum())
    holds = f"Proposition 3 {'holds' if under == said.sum() else 'is BROKEN'}: {under} of {said.sum()} residuals are "
    if not said.any():
        holds = "Proposition 3 says nothing: no embeddings span all dimensions"
    elif (positive := said & (of["bound"] > 0)).any():
        ratio = of["residual"][positive] / of["bound"][positive]
        holds += f"under their bound, at most {ratio.max():.2g} and in the middle {np.median(ratio):.2g} of it"
    else:
        holds += "under their bound"
    silent = f" (of {(~said).sum()} more, of a rank below d, it says nothing)" if said.any() and not said.all() else ""
    least, most = (int(place) for place in (of["root_loss"].argmin(), of["root_loss"].argmax()))
    return (
        f"{holds}{silent}. Proposition 1: over all {len(points)} draws residual and loss have a rank correlation of "
        f"{rank_correlation(of['residual'], of['root_loss']):.2f}; where the root of the loss is largest, "
        f"{of['root_loss'][most]:.2g}, the residual is {of['residual'][most]:.2g}, and where it is least, "
        f"{of['root_loss'][least]:.2g}, {of['residual'][least]:.2g}."
    )


def picture(points: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Two panels, a point a draw: residual over the root of the loss, and over its bound, which is the line."""
    figure, axes = plots.panels(2, 1, 5.2, 3.0)
    looks = analysis.colours(list(points))
    panels = [row[0] for row in axes]
    for axis, name, label in zip(
        panels, ("root_loss", "bound"), ("root of the mean loss over pairs", "bound of Proposition 3"), strict=True
    ):
        shown = []
        for row, of in points.items():
            colour, marker = looks[row]
            places = np.asarray([(point[name], point["residual"]) for point in of])
            places = places[np.isfinite(places).all(axis=1) & (places > 0).all(axis=1)]
            axis.plot(*places.T, marker, color=colour, markersize=3.5, alpha=0.6, label=row)
            shown.append(places)
        axis.set(xlabel=label, ylabel="residual", xscale="log", yscale="log")
        if name == "bound" and len(some := np.concatenate(shown)):
            ends = [some.min(), some.max()]
            axis.plot(ends, ends, color=plots.GRAY, linestyle="--", linewidth=1.2)
        for ticks, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            few = high < _DECADES * low  # of many decades only their beginnings have room
            ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
            ticks.set_major_formatter(lambda value, place: f"{value:g}")
            ticks.set_minor_locator(NullLocator())
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def analyse(table: FinishedTable, *, every_checkpoint: bool = False) -> Analysis:
    """Both sides, of each draw and run; of each of its checkpoints too."""
    points: dict[str, list[dict[str, float]]] = {}
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    details: dict[str, dict[str, dict[str, Any]]] = {}
    for run in table.runs(every_checkpoint=every_checkpoint):
        draws = of_run(run)
        points.setdefault(run.row, []).extend(draws)
        details.setdefault(run.row, {}).setdefault(run.seed, {})[str(run.model.step)] = draws
        numbers.setdefault(run.row, {})[run.seed] = summary(draws)  # that of the newest stays
    said = verdict([point for of in points.values() for point in of])
    return Analysis(MEASURES, numbers, COMPARED, picture(points), details, (said,))


if __name__ == "__main__":
    flags.DEFINE_bool("every_checkpoint", False, "Points of every checkpoint that a run has, not of the newest alone.")
    analysis.start("theory", lambda table: analyse(table, every_checkpoint=flags.FLAGS.every_checkpoint))
