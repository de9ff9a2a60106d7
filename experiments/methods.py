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

from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from care_jax.command_line import UsageError
from care_jax.sweep.table import Row, Table
from experiments import command

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

# A base objective -> CARE's weight on it (losses differ in scale), and settings that 1,438 images ask for.
BASES: dict[str, tuple[float, dict[str, Any]]] = {
    "simclr": (0.3, {}),
    "moco": (0.3, {"loss.queue_size": 1024}),
    "byol": (1.0, {}),
    "barlow_twins": (1.0, {"model.head_output_batch_norm": True}),
    "vicreg": (10.0, {}),
}
# A rival -> its weight, that of its paper's CIFAR10 or STL10 runs, and heads as wide as the digits' projection head.
RIVALS: dict[str, tuple[float, dict[str, Any]]] = {
    "equimod": (1.0, {}),
    "essl": (0.4, {"equivariance.hidden_size": 128}),
    "augself": (1.0, {"equivariance.hidden_size": 128}),
}


def rows(num_steps: int) -> dict[str, Row]:
    """Every base plain and with CARE; CARE elsewhere and the rivals on simclr."""
    found = {}
    for base, (weight, _) in BASES.items():
        found[base] = _row(base, 0.0, num_steps)
        found[f"{base}_care"] = _row(base, weight, num_steps)
    weight, _ = BASES["simclr"]
    for space in ("features", "head"):
        found[f"simclr_care_on_{space}"] = _row(
            "simclr", weight, num_steps, f"care on {space}", {"equivariance.on": space}
        )
    for rival, (weight, own) in RIVALS.items():
        found[f"simclr_{rival}"] = _row("simclr", weight, num_steps, rival, {"equivariance.term": rival, **own})
    return found


def swept(weights: Sequence[float], num_steps: int) -> dict[str, Row]:
    """CARE on every base with each of the weights."""
    return {f"{base}_care_{weight:g}": _row(base, weight, num_steps) for base in BASES for weight in weights}


def _row(base: str, weight: float, num_steps: int, term: str = "care", more: Mapping[str, Any] | None = None) -> Row:
    settings = {
        "train.num_steps": num_steps,
        "loss.method": base,
        "equivariance.weight": weight,
        **BASES[base][1],
        **(more or {}),
    }
    return Row((base, term if weight else "–", f"{weight:g}"), settings, base if weight else "")


def make_table(num_steps: int, only: Sequence[str] = (), sweep: str = "") -> Table:
    """The table, or some of its rows, or a sweep.

    Args:
      num_steps: updates a run.
      only: rows to make; empty for all.
      sweep: lambdas to try for CARE on every base, by commas; nothing for the table.

    Raises:
      UsageError: no such row, or no such number.
    """
    chosen = swept(command.numbers("--sweep", sweep), num_steps) if sweep else rows(num_steps)
    unknown = [name for name in only if name not in chosen]
    if unknown:
        raise UsageError(f"--only={unknown[0]} is no row; there are {', '.join(chosen)}")
    chosen = {name: row for name, row in chosen.items() if not only or name in only}
    compared = ("relative_equivariance_median", "linear_probe_top1")
    return Table(("base", "term", "lambda"), chosen, COLUMNS, compared)


if __name__ == "__main__":
    flags.DEFINE_integer("steps", 200, "Updates a run: about a minute on two CPU cores.", lower_bound=1)
    flags.DEFINE_list("only", [], "Rows to make, by the names of their folders; nothing: all.")
    flags.DEFINE_string("sweep", "", "lambdas to try for CARE on every base, by commas, instead of the table's rows.")
    FLAGS = flags.FLAGS
    command.start(lambda config: make_table(FLAGS.steps, FLAGS.only, FLAGS.sweep), workdir="runs/methods")
