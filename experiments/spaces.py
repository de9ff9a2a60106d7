"""Where CARE acts (a reviewer's question): on the projection, on the features, or on a head of its own.

    python -m experiments.spaces                                     # configs/digits.py, 3 seeds each

The share that one rotation explains in each space, where the term acts there, and what it costs. Each run has its
folder under --workdir and is not made again if it is there with the same settings.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import ml_collections

from care_jax.methods.care import SPACES
from care_jax.sweep.table import Row, Table
from experiments import command

COLUMNS = (
    "rotation_share_explained",
    "features_rotation_share_explained",
    "head_rotation_share_explained",
    "displacement_mean",
    "linear_probe_top1",
    "hue_probe_top1",
    "knn_top1",
    "seconds",
)


def make_table(config: ml_collections.ConfigDict) -> Table:
    """A row a space, beside the plain base objective.

    Args:
      config: of all rows; lambda is its own.

    Raises:
      UsageError: a lambda of 0, with which the term acts nowhere.
    """
    weight = command.own_weight(config)
    rows = {"none": Row(("–", "0"), {"equivariance.weight": 0.0})}
    for space in SPACES:
        rows[space] = Row((space, f"{weight:g}"), {"equivariance.on": space}, "none")
    return Table(("space", "lambda"), rows, COLUMNS, ("linear_probe_top1", "rotation_share_explained"))


if __name__ == "__main__":
    command.start(make_table, workdir="runs/spaces")
