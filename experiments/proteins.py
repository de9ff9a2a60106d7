"""Protein chains as clouds of points (the paper's figures 3 and 4): CARE, SimCLR, L_unif and L_inv, several seeds.

    python -m experiments.proteins                                   # configs/proteins.py, 3 seeds each
    python -m experiments.proteins --branch=rotation --workdir=runs/proteins_turned    # contrastive views turned too

From each encoder a linear regression reads the first principal component of held-out chains, turned at random; how much
of a turn one rotation of the embeddings explains, and how well two in turn predict the third, stand beside it. The
report of each run has the ways of a few clouds around three axes. Each run has its folder under --workdir and is not
made again if it is there with the same settings; the table goes to standard output and to `table.md`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

from typing import Any

import ml_collections
from absl import flags

from care_jax.command_line import UsageError
from care_jax.sweep.table import Row, Table
from experiments import command

COLUMNS = (
    "principal_component_error",
    "principal_component_direct_error",
    "rotation_share_explained",
    "rotation_share_centred",
    "composition_error",
    "relative_equivariance_median",
    "displacement_mean",
    "radius_of_gyration_explained",
    "features_principal_component_error",
)
_COMPARED = ("principal_component_error", "rotation_share_explained", "composition_error")
# What the contrastive views are: as the configuration has them, or turned, as the paper's are.
BRANCHES: dict[str, dict[str, Any]] = {
    "config": {},
    "rotation": {"rotation": True, "jitter": 0.0, "dropping": 0.0, "scaling": 0.0},
}


def make_table(config: ml_collections.ConfigDict, branch: str = "config") -> Table:
    """A row an objective.

    Args:
      config: of all rows; CARE's weight is its own.
      branch: of `BRANCHES`.

    Raises:
      UsageError: another branch; or a weight of 0, with which CARE would be SimCLR.
    """
    if branch not in BRANCHES:
        raise UsageError(f"--branch={branch}: give one of {', '.join(BRANCHES)}")
    weight = command.own_weight(config)
    views = {f"augment.invariance.{name}": value for name, value in BRANCHES[branch].items()}
    objectives = {
        "care": ("CARE", "simclr", weight),
        "simclr": ("SimCLR", "simclr", 0.0),
        "uniformity": ("L_unif", "uniformity", 0.0),
        "alignment": ("L_inv", "alignment", 0.0),
    }
    rows = {
        name: Row(
            labels=(label, f"{of_row:g}"),
            settings={"loss.method": method, "equivariance.weight": of_row} | views,
            against="" if name == "simclr" else "simclr",
        )
        for name, (label, method, of_row) in objectives.items()
    }
    return Table(("objective", "lambda"), rows, COLUMNS, _COMPARED)


if __name__ == "__main__":
    flags.DEFINE_string("branch", "config", "The contrastive views: config, or rotation, turned as the paper's are.")
    command.start(
        lambda config: make_table(config, flags.FLAGS.branch),
        workdir="runs/proteins_table",
        config="configs/proteins.py",
    )
