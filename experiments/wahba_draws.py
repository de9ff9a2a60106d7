"""Wahba's error draw by draw (the paper's figure 5), CARE against SimCLR, on images that no rotation was fitted to.

    python -m experiments.care_vs_simclr
    python -m experiments.wahba_draws                                       # of runs/care_vs_simclr
    python -m experiments.wahba_draws --workdir=runs/proteins_table

Of each of the draws of the evaluation (`evaluate.num_augmentations`, 20; the same ones for all runs) a rotation is
fitted to one half of the test images and judged on the other, both ways. An encoder that hardly moves has a low error
without any rotation: the share of the motion that the rotation explains stands beside it. The table goes to standard
output, all numbers to `wahba_draws.json`, the draws to `wahba_draws.png`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from care_jax.command_line import UsageError
from care_jax.evaluate import equivariance_error, plots
from care_jax.evaluate.measure import Measure
from care_jax.metrics.heldout import halves
from care_jax.metrics.motion import best_map
from experiments import analysis
from experiments.analysis import Analysis
from experiments.finished import Finished, FinishedTable

MEASURES = {
    "wahba": Measure(
        "|R f(x) - f(ax)|, root mean square over held-out x, R in SO(d) fitted on others; mean over draws",
        better="lower",
        heading="Wahba error, mean",
        decimals=4,
    ),
    "wahba_worst": Measure("the same, worst of the draws", better="lower", heading="worst draw", decimals=4),
    "wahba_fitted": Measure(
        "the same on what R is fitted to, all test images, as in the paper; its W is sqrt(n) times this",
        better="lower",
        heading="where it is fitted",
        decimals=4,
    ),
    "displacement": Measure("|f(x) - f(ax)|, root mean square; mean over draws", heading="displacement", decimals=4),
    "share": Measure(
        "1 - (Wahba error / displacement)^2 of a draw, held out; mean over draws",
        better="higher",
        heading="share explained, mean",
    ),
    "share_worst": Measure("the same, worst of the draws", better="higher", heading="worst share"),
}
COMPARED = ("wahba", "wahba_worst", "share", "share_worst")
_PER_DRAW = ("wahba", "wahba_fitted", "displacement", "share")


def held_out(before: np.ndarray, after: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Wahba's problem of one draw.

    Args:
      before: f(x), [n, d], n >= 8: R is fitted to four or more.
      after: f(a(x)), [n, d].
      seed: of the halves.

    Returns:
      "wahba", "wahba_fitted", "displacement", "share" as `MEASURES` says them; a share of NaN where nothing moves.

    Raises:
      ValueError: as of `best_map`.
    """
    f, fa = np.asarray(before, np.float64), np.asarray(after, np.float64)
    left, folds = 0.0, halves(len(f), seed)
    for fitted, judged in (folds, folds[::-1]):
        left += np.square(f[judged] @ best_map(f[fitted], fa[fitted]).T - fa[judged]).sum()
    moved = np.square(f - fa).sum()
    return {
        "wahba": math.sqrt(left / len(f)),
        "wahba_fitted": float(np.linalg.norm(f @ best_map(f, fa).T - fa)) / math.sqrt(len(f)),
        "displacement": math.sqrt(moved / len(f)),
        "share": float(1.0 - left / moved) if moved > 0 else math.nan,
    }


def of_run(run: Finished) -> dict[str, np.ndarray]:
    """Of each draw, [a], what `held_out` returns; and "draws", the uniforms [a, K].

    Raises:
      UsageError: embeddings that are not finite, or fewer than 8 inputs.
    """
    draws = equivariance_error.draws(run.embedded, run.model.config.evaluate)
    before = run.embedded.part("test").embeddings
    if len(before) < 8:
        raise UsageError(
            f"{run.model.workdir} has {len(before)} test inputs; a rotation is fitted to half of 8 or more"
        )
    found = []
    for draw in draws:
        after = run.embedded.drawn(draw, "equivariance")
        if not (np.isfinite(before).all() and np.isfinite(after).all()):
            raise UsageError(f"{run.model.workdir}: embeddings are not finite; leave its row out with --only")
        found.append(held_out(before, after))
    return {name: np.asarray([of[name] for of in found]) for name in _PER_DRAW} | {"draws": draws}


def summary(draws: dict[str, np.ndarray]) -> dict[str, float]:
    """The columns of the table, of a run's draws."""
    return {
        "wahba": float(draws["wahba"].mean()),
        "wahba_worst": float(draws["wahba"].max()),
        "wahba_fitted": float(draws["wahba_fitted"].mean()),
        "displacement": float(draws["displacement"].mean()),
        "share": float(draws["share"].mean()),
        "share_worst": float(draws["share"].min()),
    }


def picture(per_draw: dict[str, dict[str, dict[str, np.ndarray]]], against: str) -> Figure:
    """Two panels over the draws, mean and standard deviation over seeds; in the order of one row's error.

    Args:
      per_draw: row -> seed -> what `of_run` returns.
      against: the row that is in order; empty for the first.
    """
    stacked = {
        row: {name: np.stack([of[name] for of in seeds.values()]) for name in ("wahba", "share")}
        for row, seeds in per_draw.items()
    }
    order = np.argsort(stacked[against or next(iter(stacked))]["wahba"].mean(axis=0))
    figure, axes = plots.panels(2, 1, 6.0, 2.5, share_x="col")
    titles = {"wahba": "Wahba error", "share": "share explained"}
    looks = analysis.colours(list(stacked))
    panels = [row[0] for row in axes]
    for axis, (name, title) in zip(panels, titles.items(), strict=True):
        for place, (row, of) in enumerate(stacked.items()):
            spread = of[name].std(axis=0, ddof=1)[order] if len(of[name]) > 1 else None
            colour, marker = looks[row]
            places = np.arange(1, len(order) + 1) + 0.12 * (place - (len(stacked) - 1) / 2)
            axis.errorbar(
                places, of[name].mean(axis=0)[order], spread, fmt=marker, color=colour, markersize=4, label=row
            )
        axis.set_ylabel(title)
    panels[1].set_xlabel(f"draw, in the order of {against or next(iter(stacked))}")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylim(bottom=0.0)
    panels[1].axhline(0.0, color=plots.GRAY, linestyle="--", linewidth=1.2)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def wins(per_draw: dict[str, dict[str, dict[str, np.ndarray]]], against: str) -> tuple[str, ...]:
    """A sentence a row: on how many draws it is better than `against`, means over seeds."""
    means = {
        row: {name: np.mean([of[name] for of in seeds.values()], axis=0) for name in ("wahba", "share")}
        for row, seeds in per_draw.items()
    }
    lines = []
    for row, of in means.items():
        if against and row != against:
            lower, higher = of["wahba"] < means[against]["wahba"], of["share"] > means[against]["share"]
            lines.append(
                f"Draw by draw {row} has the lower error on {lower.sum()} of {len(lower)} and the higher share on "
                f"{higher.sum()}, means over seeds."
            )
    return tuple(lines)


def analyse(table: FinishedTable) -> Analysis:
    """The draws of every run.

    Raises:
      UserError: one line; among them runs that draw otherwise than the first.
    """
    per_draw: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    drawn: Any = None
    for run in table.runs():
        of = of_run(run)
        ranges = run.embedded.experiment.plan.equivariance, of.pop("draws")
        drawn = drawn or ranges
        if ranges[0] != drawn[0] or not np.array_equal(ranges[1], drawn[1]):
            raise UsageError(
                f"{run.model.workdir} draws other augmentations than {table.used[0]['folder']} (augment.equivariance, "
                "evaluate.seed, evaluate.num_augmentations): draw by draw they do not compare"
            )
        per_draw.setdefault(run.row, {})[run.seed] = of
    numbers = {row: {seed: summary(of) for seed, of in seeds.items()} for row, seeds in per_draw.items()}
    return Analysis(
        MEASURES, numbers, COMPARED, picture(per_draw, table.against), per_draw, wins(per_draw, table.against)
    )


if __name__ == "__main__":
    analysis.start("wahba_draws", analyse)
