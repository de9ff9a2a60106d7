"""The six combinations of the loss's parts (the paper's figures 10 to 16), several seeds.

    python -m experiments.ablation                                   # configs/digits.py, 3 seeds each
    python -m experiments.ablation --config=configs/cifar10.py --workdir=runs/cifar10_ablation  # the paper's scale

L_inv alone, L_unif alone, L_equi alone, L_equi + L_unif, InfoNCE = L_inv + L_unif, and CARE = all three: what a linear
probe reads, and the cosine of two views (`alignment`, its negative). Each run has its folder under --workdir and is not
made again if it is there with the same settings; the table goes to standard output and to `table.md`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import ml_collections

from care_jax.sweep.table import Row, Table
from experiments import command

COLUMNS = (
    "linear_probe_top1",
    "hue_probe_top1",
    "knn_top1",
    "alignment",
    "uniformity",
    "rotation_share_explained",
    "displacement_mean",
)
# What it is called -> `loss.method`, and whether L_equi is added.
PARTS = {
    "L_inv": ("alignment", False),
    "L_unif": ("uniformity", False),
    "L_equi": ("none", True),
    "L_equi + L_unif": ("uniformity", True),
    "InfoNCE": ("simclr", False),
    "CARE": ("simclr", True),
}


def make_table(config: ml_collections.ConfigDict) -> Table:
    """A row a combination.

    Args:
      config: of all rows; lambda is its own.

    Raises:
      UsageError: a lambda of 0, with which L_equi would not be there.
    """
    weight = command.own_weight(config)
    rows = {}
    for label, (method, equivariant) in PARTS.items():
        of_row = weight if equivariant else 0.0
        name = label.lower().replace(" + ", "_")
        against = "" if label == "InfoNCE" else "infonce"
        rows[name] = Row((label, f"{of_row:g}"), {"loss.method": method, "equivariance.weight": of_row}, against)
    return Table(("loss", "lambda"), rows, COLUMNS, ("linear_probe_top1", "rotation_share_explained"))


if __name__ == "__main__":
    command.start(make_table, workdir="runs/ablation")
