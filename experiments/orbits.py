"""The ways of embeddings while clouds turn about each of three axes (the paper's figure 4): are they circles?

    python -m experiments.proteins
    python -m experiments.orbits                                            # of runs/proteins_table

Up to 64 test clouds turn through the full circle about each axis, in 100 steps. In the plane that the rotation fitted
to a twelfth of the circle moves most, roundness is 1 - standard deviation / mean of the distances of a way's points
from their mean: 1 of a circle, 0.52 of a line that is gone to and fro, 0.48 of noise. It says nothing of size: the
radius stands beside it. The table goes to standard output, all numbers to `orbits.json`, four ways of each row to
`orbits.png`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import math

import numpy as np

from care_jax.command_line import UsageError
from care_jax.evaluate import cloud_sections, embedding_pictures, orbits
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.embedding_pictures import Orbit
from care_jax.evaluate.measure import Measure
from experiments import analysis
from experiments.analysis import Analysis
from experiments.finished import FinishedTable

_FOLLOWED, _SHOWN = 64, 4
MEASURES = {
    "roundness": Measure(
        "1 - std / mean of the distances from the way's mean; mean over clouds and axes",
        better="higher",
        chance="0.48: noise",
        heading="roundness",
    ),
    "radius": Measure("mean of these distances; embeddings have length 1", heading="radius"),
    "energy": Measure("share of the embeddings' squared length in the plane; mean over axes", heading="in the plane"),
}


def of_run(embedded: EmbeddedDataSet) -> tuple[dict[str, float], dict[str, Orbit]]:
    """The columns of the table, and four of the ways about each axis.

    Raises:
      UsageError: a run on images.
    """
    if not embedded.experiment.dataset.clouds:
        raise UsageError("orbits are of clouds of points: --workdir is the folder of python -m experiments.proteins")
    _, found = cloud_sections.full_turns(embedded, _FOLLOWED)
    circles = [orbits.circle(one.coordinates) for one in found.values()]
    moving = [circle for circle in circles if circle is not None]
    numbers = {
        "roundness": float(np.mean([circle.roundness for circle in moving])) if moving else math.nan,
        "radius": float(np.mean([circle.radius for circle in moving])) if moving else 0.0,
        "energy": float(np.mean([one.energy for one in found.values()])) if found else 0.0,
    }
    few = {
        axis: one._replace(coordinates=one.coordinates[cloud_sections.spaced(len(one.coordinates), _SHOWN)])
        for axis, one in found.items()
    }
    return numbers, few


def analyse(table: FinishedTable) -> Analysis:
    """Of every run of a table."""
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    shown: dict[str, dict[str, Orbit]] = {}
    for run in table.runs():
        found, ways = of_run(run.embedded)
        numbers.setdefault(run.row, {})[run.seed] = found
        shown.setdefault(run.row, ways)  # of the first seed
    figure = embedding_pictures.orbits_of_rows(shown, cloud_sections.circle_in_words)
    return Analysis(MEASURES, numbers, ("roundness",), figure)


if __name__ == "__main__":
    analysis.start("orbits", analyse, workdir="runs/proteins_table")
