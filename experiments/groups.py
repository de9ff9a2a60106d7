"""Equivariance to other groups than rotations (section 3.2 of the paper): orthogonal, Lorentz, symplectic, equal steps.

    python -m experiments.groups                                     # configs/digits.py, 3 seeds each

What the best member of the group that was asked for leaves of the motion (`group_residual_mean` against
`group_displacement_mean`; of O(d) `wahba_orthogonal_mean` against `displacement_mean`), and what each costs in digits
and hues. Each run has its folder under --workdir and is not made again if it is there with the same settings.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import ml_collections

from care_jax.methods.care import GROUPS
from care_jax.sweep.table import Row, Table
from experiments import command

COLUMNS = (
    "group_residual_mean",
    "group_displacement_mean",
    "wahba_orthogonal_mean",
    "displacement_mean",
    "rotation_share_explained",
    "linear_share_explained",
    "linear_probe_top1",
    "hue_probe_top1",
)


def make_table(config: ml_collections.ConfigDict) -> Table:
    """A row a group, beside the plain base objective.

    Args:
      config: of all rows; lambda is its own.

    Raises:
      UsageError: a lambda of 0, with which no group is asked for.
    """
    weight = command.own_weight(config)
    rows = {"none": Row(("–", "0"), {"equivariance.weight": 0.0})}
    for group in GROUPS:
        rows[group] = Row((group, f"{weight:g}"), {"equivariance.group": group}, "none")
    return Table(("group", "lambda"), rows, COLUMNS, ("linear_probe_top1", "linear_share_explained"))


if __name__ == "__main__":
    command.start(make_table, workdir="runs/groups")
