"""Every base objective with and without CARE, and CARE's rivals, at the same small budget.

    python -m experiments.methods                            # configs/digits.py, 200 steps, 3 seeds each
    python -m experiments.methods --only=byol,vicreg         # these rows alone
    python -m experiments.methods --sweep=0.1,0.3,1 --seeds=1   # other lambdas for CARE on every base

Each run has its folder under --workdir and is not made again if it is there with the same settings; with others it is
refused. The table, mean and standard deviation over the training seeds, goes to standard output and to `table.md`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, parse_flags, user_errors
from care_jax.storage import local_path
from experiments.runs import Summary, finished_run, mean, table, write_table

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", "configs/digits.py", "The configuration.", lock_config=True)
flags.DEFINE_string("workdir", "runs/methods", "Folder of the runs and of the table.")
flags.DEFINE_integer("seeds", 3, "Training seeds, from 0.", lower_bound=1)
flags.DEFINE_integer("steps", 200, "Updates a run: about a minute on two CPU cores.", lower_bound=1)
flags.DEFINE_list("only", [], "Rows to make, by the names of their folders; nothing: all.")
flags.DEFINE_list("sweep", [], "lambdas to try for CARE on every base, instead of the table's rows.")

SHOWN = (
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
# A rival -> its weight, that of its paper's CIFAR10 or STL10 runs.
RIVALS = {"equimod": 1.0, "essl": 0.4, "augself": 1.0}


class Row(NamedTuple):
    """One configuration of the table: base objective, equivariance term, lambda, and the settings that make it."""

    base: str
    term: str
    weight: float
    settings: Mapping[str, Any]


def rows() -> dict[str, Row]:
    """The table's rows by the names of their folders."""
    found = {}
    for base, (weight, settings) in BASES.items():
        found[base] = Row(base, "–", 0.0, settings)
        found[f"{base}_care"] = Row(base, "care", weight, settings)
    weight, settings = BASES["simclr"]
    for space in ("features", "head"):
        on = {**settings, "equivariance.on": space}
        found[f"simclr_care_on_{space}"] = Row("simclr", f"care on {space}", weight, on)
    for rival, weight in RIVALS.items():
        found[f"simclr_{rival}"] = Row("simclr", rival, weight, {**settings, "equivariance.term": rival})
    return found


def swept(weights: Sequence[float]) -> dict[str, Row]:
    """CARE on every base with each of the weights."""
    return {
        f"{base}_care_{weight:g}": Row(base, "care", weight, settings)
        for base, (_, settings) in BASES.items()
        for weight in weights
    }


def configured(config: ml_collections.ConfigDict, row: Row, *, seed: int, num_steps: int) -> ml_collections.ConfigDict:
    """The configuration of one run; the one given stays as it is."""
    config = copy.deepcopy(config)  # ConfigDict(config) would share its sections
    config.seed = seed
    config.train.num_steps = num_steps
    config.loss.method = row.base
    config.equivariance.weight = row.weight
    config.update_from_flattened_dict(dict(row.settings))
    return config


def verdicts(results: Mapping[str, Sequence[Summary]]) -> list[str]:
    """CARE against each plain base, a line each, with the figures; says so where CARE loses."""
    lines = []
    for base in BASES:
        if base in results and f"{base}_care" in results:
            plain, care = results[base], results[f"{base}_care"]
            ratio = mean(care, "relative_equivariance_median") / mean(plain, "relative_equivariance_median")
            probe = mean(care, "linear_probe_top1") - mean(plain, "linear_probe_top1")
            lines.append(
                f"{base}: CARE's median relative equivariance is {ratio:.3f} times the plain base's "
                f"({'lower' if ratio < 1 else 'NOT lower'}), its digit probe {probe:+.2f} points"
            )
    return lines


def main(argv: list[str]) -> None:
    """Makes the runs that are missing and prints the table."""
    del argv
    logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant
    with user_errors():
        try:
            chosen = swept([float(text) for text in FLAGS.sweep]) if FLAGS.sweep else rows()
        except ValueError as error:
            raise UsageError(
                f"--sweep={','.join(FLAGS.sweep)}: give numbers with commas, 0.1,0.3 for instance"
            ) from error
        unknown = [name for name in FLAGS.only if name not in chosen]
        if unknown:
            raise UsageError(f"--only={unknown[0]} is no row; there are {', '.join(chosen)}")
        results: dict[str, list[Summary]] = {}
        workdir = local_path(FLAGS.workdir, "--workdir")
        for name, row in chosen.items():
            if FLAGS.only and name not in FLAGS.only:
                continue
            results[name] = []
            for seed in range(FLAGS.seeds):
                config = configured(FLAGS.config, row, seed=seed, num_steps=FLAGS.steps)
                results[name].append(finished_run(config, workdir / f"{name}_seed_{seed}"))
        labelled: dict[tuple[str, ...], list[Summary]] = {
            (chosen[name].base, chosen[name].term, f"{chosen[name].weight:g}"): summaries
            for name, summaries in results.items()
        }
        text = "\n".join([table(["base", "term", "lambda"], labelled, SHOWN), "", *verdicts(results)])
        write_table(workdir, text)
        print(text, flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--config=configs/digits.py"))
