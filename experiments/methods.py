"""Every base objective with and without CARE, and CARE's rivals, at the same small budget.

    python -m experiments.methods                            # configs/digits.py, 200 steps, 3 seeds each
    python -m experiments.methods --only=byol,vicreg         # these rows alone
    python -m experiments.methods --sweep=0.1,0.3,1 --seeds=1   # other lambdas for CARE on every base

Each run has its folder under --workdir and is not made again if it is there with the same settings; with others it is
refused. The table, mean and standard deviation over the training seeds, goes to standard output and to `table.md`.
`--jobs=2` makes two runs at a time, each with its share of the cores, or of the GPUs. On CPUs the last bits of a run's
numbers depend on how many cores it has.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import ml_collections
from absl import flags

from care_jax.command_line import given_settings
from care_jax.experiment import build
from care_jax.sweep.table import Row, Table
from experiments import command, own_settings

COLUMNS = (
    "knn_top1",
    "linear_probe_top1",
    "hue_probe_top1",
    "wahba_mean",
    "relative_equivariance_median",
    "alignment",
    "uniformity",
    "seconds",
)


def rows(config: ml_collections.ConfigDict, images: int, num_steps: int, given: Collection[str] = ()) -> dict[str, Row]:
    """Every base plain and with CARE; CARE elsewhere and the rivals on simclr."""
    found = {}
    row = partial(_row, config, images, num_steps, given)
    for base, scale in own_settings.CARE_SCALE.items():
        found[base] = row(base, 0.0)
        found[f"{base}_care"] = row(base, scale * command.own_weight(config))
    for space in ("features", "head"):
        found[f"simclr_care_on_{space}"] = row(
            "simclr", command.own_weight(config), f"care on {space}", {"equivariance.on": space}
        )
    for rival, (base, weight) in own_settings.RIVALS.items():
        if base != "none":
            more = {"equivariance.term": rival, **own_settings.of_rival(rival, config)}
            found[f"{base}_{rival}"] = row(base, weight, rival, more)
    return found


def swept(
    config: ml_collections.ConfigDict,
    images: int,
    num_steps: int,
    weights: Sequence[float],
    given: Collection[str] = (),
) -> dict[str, Row]:
    """CARE on every base with each of the weights."""
    row = partial(_row, config, images, num_steps, given)
    return {f"{base}_care_{weight:g}": row(base, weight) for base in own_settings.CARE_SCALE for weight in weights}


def _row(
    config: ml_collections.ConfigDict,
    images: int,
    num_steps: int,
    given: Collection[str],
    base: str,
    weight: float,
    term: str = "care",
    more: Mapping[str, Any] | None = None,
) -> Row:
    settings = {
        "train.num_steps": num_steps,
        "loss.method": base,
        "equivariance.weight": weight,
        **own_settings.of_base(base, config, images, given),
        **(more or {}),
    }
    return Row((base, term if weight else "–", f"{weight:g}"), settings, base if weight else "")


def make_table(
    config: ml_collections.ConfigDict,
    images: int,
    num_steps: int,
    sweep: str = "",
    given: Collection[str] = (),
) -> Table:
    """The table, or a sweep.

    Args:
      config: of all rows; its lambda is that of CARE on SimCLR.
      images: that are trained on.
      num_steps: updates a run.
      sweep: lambdas to try for CARE on every base, by commas; nothing for the table.
      given: the settings that the command line gave.

    Raises:
      UsageError: no such number; a lambda of 0.
    """
    weights = command.numbers("--sweep", sweep)
    made = swept(config, images, num_steps, weights, given) if sweep else rows(config, images, num_steps, given)
    compared = ("relative_equivariance_median", "linear_probe_top1")
    return Table(("base", "term", "lambda"), made, COLUMNS, compared)


if __name__ == "__main__":
    flags.DEFINE_integer("steps", 200, "Updates a run: about a minute on two CPU cores.", lower_bound=1)
    flags.DEFINE_string("sweep", "", "lambdas to try for CARE on every base, by commas, instead of the table's rows.")
    FLAGS = flags.FLAGS

    said: list[str] = []  # below the table

    def _make_table(config: ml_collections.ConfigDict) -> Table:
        images, given = len(build.load_data(config).pretrain), given_settings()
        table = make_table(config, images, FLAGS.steps, FLAGS.sweep, given)
        said.append(own_settings.told(config, images, given, [row.settings for row in table.rows.values()]))
        return table

    command.start(_make_table, workdir="runs/methods", further=lambda *_: "".join(said))
