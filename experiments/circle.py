"""Embeddings on the circle (the paper's figure 6): by what angle does an augmentation turn them, and all by the same?

    python -m experiments.care_vs_simclr --config.model.head_size=2 --workdir=runs/circle
    python -m experiments.circle                                            # of runs/circle

Of each of the draws of the evaluation (`evaluate.num_augmentations`, 20; the same ones for all runs) the angle from
f(x) to f(ax) is taken for every test image x. The paper shows the cosine of that angle; a cosine near 1 is little
motion, and an encoder that is invariant has nothing else. What equivariance says is that a draw turns all embeddings by
ONE angle: the concentration of the signed angle within a draw is 1 then, and 1 / sqrt(n) at most by chance. The table
goes to standard output, all numbers to `circle.json`, histograms over all draws and spreads a draw to `circle.png`.
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
from care_jax.evaluate import equivariance_error, plots
from care_jax.evaluate.measure import Measure
from experiments import analysis
from experiments.analysis import Analysis
from experiments.finished import Finished, FinishedTable

FAR = -0.5  # the paper's figure has SimCLR's mass below this cosine
BINS = np.linspace(-1.0, 1.0, 41)
MEASURES = {
    "cosine": Measure("cosine of the angle from f(x) to f(ax), mean over x and draws", heading="cosine, mean"),
    "cosine_spread": Measure(
        "standard deviation of the cosine over x within a draw, mean over draws",
        better="lower",
        heading="its spread within a draw",
    ),
    "far": Measure(
        f"pairs x, ax with a cosine below {FAR:g}", unit="%", better="lower", heading=f"cosine < {FAR:g}", decimals=1
    ),
    "turn": Measure(
        "size of the angle that most of a draw's embeddings turn by (of the mean direction), mean over draws",
        unit="degrees",
        heading="turn of a draw",
        decimals=1,
    ),
    "concentration": Measure(
        "|mean of exp(i angle)| over x within a draw, mean over draws; 1: all turn by one angle",
        better="higher",
        chance="1 / sqrt(n)",
        heading="concentration of the angle",
    ),
    "concentration_worst": Measure("the same, worst of the draws", better="higher", heading="worst draw"),
    "covered": Measure(
        "1 - |mean of f(x)|: 0 where all inputs lie in one place of the circle, near 1 where they are spread evenly",
        heading="1 - length of the mean",
    ),
}
COMPARED = ("cosine_spread", "far", "concentration", "concentration_worst")

Draws = Mapping[str, np.ndarray]


def angles(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Signed angles from rows to rows of the plane, radians in (-pi, pi].

    Args:
      before, after: [..., 2].

    >>> np.round(angles(np.array([[1.0, 0.0]]), np.array([[0.0, -2.0]])) / np.pi, 3)
    array([-0.5])
    """
    x, y = np.moveaxis(np.asarray(before, np.float64), -1, 0)
    u, v = np.moveaxis(np.asarray(after, np.float64), -1, 0)
    found: np.ndarray = np.arctan2(x * v - y * u, x * u + y * v)
    return found


def of_angles(turned: np.ndarray) -> dict[str, np.ndarray]:
    """What each draw does.

    Args:
      turned: [a, n], radians: of each draw the angle of every input.

    Returns:
      Of each draw, [a]: "cosine", "cosine_spread", "far" (percent), "turn" (signed, degrees), "concentration".
    """
    cosines, mean = np.cos(turned), np.exp(1j * turned).mean(axis=1)
    return {
        "cosine": cosines.mean(axis=1),
        "cosine_spread": cosines.std(axis=1),
        "far": 100.0 * (cosines < FAR).mean(axis=1),
        "turn": np.degrees(np.angle(mean)),
        "concentration": np.abs(mean),
    }


def of_run(run: Finished) -> dict[str, Any]:
    """What `of_angles` returns; and "histogram", the share of pairs in each of `BINS`, and "covered".

    Raises:
      UsageError: embeddings of another size than 2, or not finite.
    """
    before = run.embedded.part("test").embeddings
    if before.shape[1] != 2:
        raise UsageError(
            f"{run.model.workdir} has embeddings of {before.shape[1]} dimensions, and a circle has 2: make the table "
            "with --config.model.head_size=2"
        )
    draws = equivariance_error.draws(run.embedded, run.model.config.evaluate)
    after = np.stack([run.embedded.drawn(draw, "equivariance") for draw in draws])
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise UsageError(f"{run.model.workdir}: embeddings are not finite; leave its row out with --only")
    turned = angles(np.broadcast_to(before, after.shape), after)
    counts, _ = np.histogram(np.clip(np.cos(turned), -1.0, 1.0), BINS)
    covered = 1.0 - float(np.linalg.norm(np.asarray(before, np.float64).mean(axis=0)))
    return of_angles(turned) | {"histogram": counts / turned.size, "covered": covered}


def summary(found: Mapping[str, Any]) -> dict[str, float]:
    """The columns of the table, of what `of_run` returns."""
    means = {name: float(np.mean(found[name])) for name in ("cosine", "cosine_spread", "far", "concentration")}
    worst, turn = float(np.min(found["concentration"])), float(np.abs(found["turn"]).mean())
    return {**means, "turn": turn, "concentration_worst": worst, "covered": found["covered"]}


def picture(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figure:
    """Above the histogram of the cosine, below each draw's concentration over its turn; the mean over seeds, and all.

    Args:
      runs: row -> seed -> what `of_run` returns.
    """
    figure, axes = plots.panels(2, 1, 5.2, 2.7)
    above, below = axes[0][0], axes[1][0]
    looks = analysis.colours(list(runs))
    for row, seeds in runs.items():
        colour, marker = looks[row]
        shares = 100.0 * np.mean([of["histogram"] for of in seeds.values()], axis=0)
        above.stairs(shares, BINS, color=colour, label=row, linewidth=1.6)
        turns, concentrations = (
            np.concatenate([of[name] for of in seeds.values()]) for name in ("turn", "concentration")
        )
        below.plot(turns, concentrations, marker, color=colour, markersize=3.5, alpha=0.7, linestyle="none")
    above.set(xlabel="cosine of the angle from f(x) to f(ax)", ylabel="share of pairs, %", yscale="log")
    below.set(xlabel="turn of the draw, degrees", ylabel="concentration of the angle", ylim=(0.0, 1.03))
    below.set(xlim=(-180.0, 180.0), xticks=[-180, -90, 0, 90, 180])
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def analyse(table: FinishedTable) -> Analysis:
    """The angles of every run."""
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    for run in table.runs():
        runs.setdefault(run.row, {})[run.seed] = of_run(run)
    numbers = {row: {seed: summary(of) for seed, of in seeds.items()} for row, seeds in runs.items()}
    return Analysis(MEASURES, numbers, COMPARED, picture(runs), {"bins": BINS, "runs": runs})


if __name__ == "__main__":
    analysis.start("circle", analyse, workdir="runs/circle")
