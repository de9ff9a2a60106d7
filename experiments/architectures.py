"""CARE and SimCLR on other encoders than ResNets (a reviewer's question): a Vision Transformer beside ResNets.

    python -m experiments.architectures                              # configs/digits.py, 3 seeds each
    python -m experiments.architectures --only=vit_small_plain,vit_small_care --config.data.image_size=16
    python -m experiments.proteins                                   # Deep Sets: of other data, in a table of its own

Each run has its folder under --workdir and is not made again if it is there with the same settings. On one core a
Vision Transformer made 52 images a second at 32 pixels (25 minutes a run without CARE), and 120 to 130 with CARE at 16.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

from typing import Any

import ml_collections

from care_jax.sweep.table import Row, Table
from experiments import command

COLUMNS = (
    "rotation_share_explained",
    "relative_equivariance_median",
    "displacement_mean",
    "linear_probe_top1",
    "hue_probe_top1",
    "knn_top1",
    "seconds",
)
# Narrow ones, for two CPU cores; a Vision Transformer's width is that of one of its heads.
ENCODERS: dict[str, dict[str, Any]] = {
    "resnet10": {"model.backbone": "resnet10"},
    "resnet18": {"model.backbone": "resnet18"},
    "vit_small": {"model.backbone": "vit_small", "model.width": 16, "model.stem": "cifar"},
}


def make_table(config: ml_collections.ConfigDict) -> Table:
    """Two rows an encoder: the base objective, and with CARE.

    Args:
      config: of all rows; lambda is its own.

    Raises:
      UsageError: a lambda of 0.
    """
    weight = command.own_weight(config)
    rows = {}
    for encoder, settings in ENCODERS.items():
        for of_row in (0.0, weight):
            name, plain = (f"{encoder}_{base}" for base in ("care" if of_row else "plain", "plain"))
            rows[name] = Row(
                (encoder, f"{of_row:g}"), settings | {"equivariance.weight": of_row}, plain if of_row else ""
            )
    return Table(("encoder", "lambda"), rows, COLUMNS, ("rotation_share_explained", "linear_probe_top1"))


if __name__ == "__main__":
    command.start(make_table, workdir="runs/architectures")
