"""CARE against SimCLR at the same budget: the same configuration with lambda and with 0, several training seeds.

    python -m experiments.care_vs_simclr                                   # configs/digits.py, 3 seeds each
    python -m experiments.care_vs_simclr --weights=0,0.1,0.3,1 --seeds=1   # a sweep of lambda (the paper's figure 7)

Each run has its folder under --workdir and is not made again if it is there with the same settings; with others it is
refused. The table, mean and standard deviation over the training seeds, goes to standard output and to `table.md`.
`--jobs=2` makes two runs at a time, each with its share of the cores, or of the GPUs. On CPUs the last bits of a run's
numbers depend on how many cores it has.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import ml_collections
from absl import flags

from care_jax.sweep.table import Row, Table
from experiments import command

COLUMNS = (
    "rotation_share_explained",
    "relative_equivariance_median",
    "wahba_mean",
    "displacement_mean",
    "knn_top1",
    "linear_probe_top1",
    "hue_probe_top1",
    "hue_follow",
    "seconds",
)


def make_table(config: ml_collections.ConfigDict, weights: str = "") -> Table:
    """A row a lambda.

    Args:
      config: of all rows.
      weights: lambdas, by commas; nothing: 0 and the configuration's own.

    Raises:
      UsageError: one of them is no number, or there twice; none are given, and the configuration's own is 0.
    """
    given, base = command.numbers("--weights", weights), config.loss.method
    labels = ("SimCLR", "CARE") if base == "simclr" else (base, f"{base} + CARE")
    rows = {}
    for weight in given or [0.0, command.own_weight(config)]:
        name = "care" if weight else base
        rows[f"{name}_{weight:g}" if weight and given else name] = Row(
            labels=(labels[bool(weight)], f"{weight:g}"),
            settings={"equivariance.weight": weight},
            against=base if weight else "",
        )
    compared = ("rotation_share_explained", "linear_probe_top1", "knn_top1", "hue_probe_top1")
    return Table(("method", "lambda"), rows, COLUMNS, compared)


if __name__ == "__main__":
    flags.DEFINE_string("weights", "", "lambdas, by commas; nothing: 0 and the configuration's own.")
    command.start(lambda config: make_table(config, flags.FLAGS.weights), workdir="runs/care_vs_simclr")
