"""What lambda costs and brings (the paper's figure 7): probe error and share explained against the weight of L_equi.

    python -m experiments.weight_sweep                               # configs/digits.py, six lambdas, 3 seeds each
    python -m experiments.weight_sweep --weights=0,0.001,0.01,0.1,1 --config=configs/cifar10.py --workdir=runs/cifar10

Each run has its folder under --workdir and is not made again if it is there with the same settings. The table, with a
sentence on both ends, goes to standard output and to `table.md`, the picture to `weight_sweep.png`: means over the
seeds, bars of a deviation.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import math

import ml_collections
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from care_jax.command_line import UsageError
from care_jax.evaluate import plots
from care_jax.sweep.table import Results, Row, Table, within_spread
from care_jax.sweep.tables import Picture
from experiments import command

COLUMNS = (
    "linear_probe_top1",
    "hue_probe_top1",
    "knn_top1",
    "rotation_share_explained",
    "relative_equivariance_median",
    "displacement_mean",
)
_PANELS = {"linear_probe_top1": "probe error, %", "rotation_share_explained": "share explained"}


def make_table(config: ml_collections.ConfigDict, weights: list[float]) -> Table:
    """A row a lambda; all are compared with the first, which is 0 by default.

    Args:
      config: of all rows.
      weights: lambdas.

    Raises:
      UsageError: fewer than two, or one twice.
    """
    if len(weights) < 2 or len(set(weights)) < len(weights):
        raise UsageError("--weights: give two lambdas or more, each once")
    names = {weight: f"lambda_{weight:g}" for weight in weights}
    rows = {
        name: Row((f"{weight:g}",), {"equivariance.weight": weight}, "" if weight == weights[0] else names[weights[0]])
        for weight, name in names.items()
    }
    return Table(("lambda",), rows, COLUMNS, ("linear_probe_top1", "rotation_share_explained"))


def picture(table: Table, results: Results) -> Figure:
    """A panel a measure, over lambda; 0 stands at the left end, apart from the logarithmic scale."""
    weights = {name: float(row.labels[0]) for name, row in table.rows.items()}
    smallest = min((weight for weight in weights.values() if weight), default=1.0)
    places = {weight: weight or smallest / math.sqrt(10.0) for weight in sorted(weights.values())}
    figure, axes = plots.panels(len(_PANELS), 1, 4.6, 2.3, share_x="col")
    for (axis,), (measure, label) in zip(axes, _PANELS.items(), strict=True):
        points = []
        for name, weight in sorted(weights.items(), key=lambda item: item[1]):
            values = [summary[measure] for summary in results[name] if summary.get(measure) is not None]
            values = [100.0 - value for value in values] if measure == "linear_probe_top1" else values
            if values and len(values) == len(results[name]):  # else the table has a dash
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                points.append((places[weight], float(np.mean(values)), spread))
        if points:
            x, means, spreads = zip(*points, strict=True)
            axis.errorbar(x, means, yerr=spreads, color=plots.BLUE, marker="o", markersize=4, capsize=3)
            axis.set_xscale("log")
            axis.set_xticks(list(places.values()), [f"{weight:g}" for weight in places])
            axis.minorticks_off()
        axis.set_ylabel(label)
    axes[-1][0].set_xlabel("lambda")
    return figure


def verdict(table: Table, results: Results) -> str:
    """Whether both ends are worse than the best of what lies between, by the probe's error."""
    weights = {name: float(row.labels[0]) for name, row in table.rows.items()}
    errors = {}
    for name in sorted(weights, key=lambda name: weights[name]):
        values = [summary.get("linear_probe_top1") for summary in results[name]]
        if None not in values:
            errors[weights[name]] = 100.0 - np.asarray(values, np.float64)
    if len(errors) < 3:
        return "Both ends and a middle: three lambdas or more are needed, each with a probe."
    smallest, *between, largest = errors
    best = min(between, key=lambda weight: errors[weight].mean())
    said = []
    for end in (smallest, largest):
        worse = errors[end].mean() > errors[best].mean()
        if min(len(errors[end]), len(errors[best])) < 2:
            spread = "a single seed tells no spread"
        elif within_spread(errors[end], errors[best]):
            spread = "within the seeds' standard deviations"
        else:
            spread = "beyond the seeds' standard deviations"
        said.append(f"{'worse' if worse else 'NOT worse'} at lambda {end:g} ({errors[end].mean():.1f} %, {spread})")
    return (
        f"Between the ends the probe's error is least at lambda {best:g}, {errors[best].mean():.1f} %; it is "
        f"{' and '.join(said)}."
    )


if __name__ == "__main__":
    flags.DEFINE_string(
        "weights", "0,0.01,0.03,0.1,0.3,1", "lambdas, by commas; the others are compared with the first."
    )
    command.start(
        lambda config: make_table(config, command.numbers("--weights", flags.FLAGS.weights)),
        workdir="runs/weight_sweep",
        picture=Picture("weight_sweep.png", picture),
        further=verdict,
    )
