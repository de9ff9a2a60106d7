"""Positive cosine similarity (the paper's figures 10 to 16): how near are two views of one image, loss by loss?

    python -m experiments.ablation --config.train.checkpoint_every_epochs=5.0 --config.train.keep_last=50
    python -m experiments.positives                                         # of runs/ablation

Two views of every test image, drawn as the contrastive views are, an independent draw an image: the cosine of their
embeddings, and beside it that of views of two images, for a loss that has collapsed has cosines of 1 everywhere. The
table (of the newest checkpoints) goes to standard output, all numbers to `positives.json`; `positives.png` has the
histograms of both, and the mean cosine of views of one image over the checkpoints that all runs have.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from care_jax.command_line import UsageError
from care_jax.evaluate import alignment, plots
from care_jax.evaluate.measure import Measure
from experiments import analysis
from experiments.analysis import Analysis
from experiments.finished import Finished, FinishedTable

BINS = np.linspace(-1.0, 1.0, 51)
MEASURES = {
    "positive": Measure("cosine of two views of an image, mean", better="higher", heading="positive cosine"),
    "positive_spread": Measure("its standard deviation over images", heading="its spread over images"),
    "negative": Measure("cosine of views of two images, mean; 1: all are in one place", heading="negative cosine"),
    "apart": Measure(
        "mean cosine of views of an image minus that of views of two images, over the standard deviation of the latter",
        better="higher",
        chance="0",
        heading="positives over negatives, in deviations",
        decimals=2,
    ),
}
COMPARED = ("positive", "apart")


def cosines(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of views of one image, [n], and of views of two, [n (n - 1)], float64.

    Args:
      first, second: unit rows [n, d], n >= 2: a view of each image.
    """
    found = np.asarray(first, np.float64) @ np.asarray(second, np.float64).T
    positive: np.ndarray = np.diagonal(found).copy()
    return positive, found[~np.eye(len(found), dtype=bool)]


def of_run(run: Finished) -> dict[str, Any]:
    """The numbers of `MEASURES`, and "positives" and "negatives": shares of both in each of `BINS`.

    Raises:
      UsageError: embeddings that are not finite; one test image.
    """
    first, second = alignment.views(run.embedded, run.model.config.evaluate)
    if len(first) < 2:
        raise UsageError(f"{run.model.workdir} has one test input: there are no views of two")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError(f"{run.model.workdir}: embeddings are not finite; leave its row out with --only")
    positive, negative = cosines(first, second)
    spread = float(negative.std())
    difference = float(positive.mean() - negative.mean())
    return {
        "positive": float(positive.mean()),
        "positive_spread": float(positive.std()),
        "negative": float(negative.mean()),
        "apart": difference / spread if spread > 0.0 else 0.0 if difference == 0.0 else float("inf"),
        "positives": shares(positive),
        "negatives": shares(negative),
    }


def shares(values: np.ndarray) -> np.ndarray:
    """Of cosines in each of `BINS`; what rounding puts beyond 1 is at 1."""
    counts, _ = np.histogram(np.clip(values, -1.0, 1.0), BINS)
    found: np.ndarray = np.round(counts / values.size, 6)  # the file of numbers stays small
    return found


def picture(
    runs: Mapping[str, Mapping[str, Mapping[str, Any]]], courses: Mapping[str, Mapping[str, Mapping[int, float]]]
) -> Figure:
    """A panel a row, positives and negatives, the mean over seeds; below the courses in one panel, if there are any.

    Args:
      runs: row -> seed -> what `of_run` returns.
      courses: row -> seed -> step -> mean cosine of two views.
    """
    steps = sorted(set.intersection(*(set(of) for seeds in courses.values() for of in seeds.values())))
    drawn = len(steps) > 1
    columns = 3
    lines = -(-len(runs) // columns)
    figure, axes = plots.panels(lines + drawn, columns, 2.7, 1.9)
    places = [axis for line in axes[:lines] for axis in line]
    for axis, (row, seeds) in zip(places, runs.items(), strict=False):
        for name, colour in (("negatives", plots.GRAY), ("positives", plots.BLUE)):
            mean = 100.0 * np.mean([of[name] for of in seeds.values()], axis=0)
            axis.stairs(mean, BINS, color=colour, fill=True, alpha=0.6, label=name)
        axis.set_title(row, fontsize=9)
        axis.set(yscale="log", ylim=(0.01, 130.0))
    for axis in places[len(runs) :]:
        axis.remove()
    for line in axes[:lines]:
        line[0].set_ylabel("share of pairs, %")
    for axis in places[max(len(runs) - columns, 0) : len(runs)]:
        axis.set_xlabel("cosine")
    places[0].legend(frameon=False, fontsize=7, loc="upper left")
    if drawn:
        looks = analysis.colours(list(runs))
        for axis in axes[-1][1:]:
            axis.remove()
        axis = axes[-1][0]
        grid = axis.get_gridspec()
        assert grid is not None
        axis.set_subplotspec(grid[lines, :])
        for row, course in courses.items():
            means = [float(np.mean([of[step] for of in course.values()])) for step in steps]
            axis.plot(steps, means, color=looks[row][0], marker=looks[row][1], markersize=3, label=row)
        axis.set(xlabel="step", ylabel="positive cosine")
        axis.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def analyse(table: FinishedTable) -> Analysis:
    """The cosines of every run, and of each of its checkpoints their mean."""
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    courses: dict[str, dict[str, dict[int, float]]] = {}
    for run in table.runs(every_checkpoint=True, branch="invariance"):
        found = of_run(run)
        runs.setdefault(run.row, {})[run.seed] = found  # that of the newest stays
        courses.setdefault(run.row, {}).setdefault(run.seed, {})[run.model.step] = found["positive"]
    numbers = {
        row: {seed: {name: of[name] for name in MEASURES} for seed, of in seeds.items()} for row, seeds in runs.items()
    }
    return Analysis(
        MEASURES, numbers, COMPARED, picture(runs, courses), {"bins": BINS, "runs": runs, "courses": courses}
    )


if __name__ == "__main__":
    analysis.start("positives", analyse, workdir="runs/ablation")
