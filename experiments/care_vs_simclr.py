"""CARE against SimCLR at the same budget: the same configuration with lambda and with 0, several training seeds.

    python -m experiments.care_vs_simclr                                   # configs/digits.py, 3 seeds each
    python -m experiments.care_vs_simclr --weights=0,0.1,0.3,1 --seeds=1   # a sweep of lambda (the paper's figure 7)

Each run has its folder under --workdir and is not made again if it is there with the same settings; with others it is
refused. The table, mean and standard deviation over the training seeds, goes to standard output and to `table.md`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import copy
import math
from collections.abc import Mapping, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, parse_flags, user_errors
from care_jax.storage import local_path
from experiments.runs import Summary, finished_run, mean, table, write_table

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", "configs/digits.py", "The configuration.", lock_config=True)
flags.DEFINE_string("workdir", "runs/care_vs_simclr", "Folder of the runs and of the table.")
flags.DEFINE_string("weights", "", "lambdas, by commas; nothing: 0 and the configuration's own.")
flags.DEFINE_integer("seeds", 3, "Training seeds, from 0.", lower_bound=1)


def verdicts(results: Mapping[float, Sequence[Summary]]) -> list[str]:
    """CARE against SimCLR, one line a goal and lambda, with the figures; says so where CARE loses."""
    if 0.0 not in results:
        return []

    lines = []
    plain = results[0.0]
    for weight, summaries in results.items():
        if not weight:
            continue
        ratio = mean(summaries, "relative_equivariance_median") / mean(plain, "relative_equivariance_median")
        wahba = mean(summaries, "wahba_mean") - mean(plain, "wahba_mean")
        probe = mean(summaries, "linear_probe_top1") - mean(plain, "linear_probe_top1")
        knn = min(math.nan if summary["knn_top1"] is None else summary["knn_top1"] for summary in summaries)
        lines += [
            f"lambda {weight:g}: {'met' if met else 'NOT met'}: {text}"
            for met, text in (
                (ratio <= 0.5, f"median relative equivariance {ratio:.3f} times SimCLR's (goal: at most 0.5)"),
                (wahba < 0, f"mean Wahba error {wahba:+.4f} (goal: lower)"),
                (probe >= -1, f"digit probe {probe:+.2f} points (goal: not below by more than 1)"),
                (knn >= 90, f"kNN at least {knn:.1f} % over the seeds (goal: 90)"),
            )
        ]
    return lines


def main(argv: list[str]) -> None:
    """Makes the runs that are missing and prints the table."""
    del argv
    logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant
    with user_errors():
        base, workdir = FLAGS.config, local_path(FLAGS.workdir, "--workdir")
        try:
            weights = [float(text) for text in FLAGS.weights.split(",")] if FLAGS.weights else []
        except ValueError as error:
            raise UsageError(f"--weights={FLAGS.weights}: give numbers with commas, 0,0.1,0.3 for instance") from error
        results: dict[float, list[Summary]] = {}
        for weight in weights or [0.0, base.equivariance.weight]:
            results[weight] = []
            for seed in range(FLAGS.seeds):
                config = copy.deepcopy(base)  # ConfigDict(base) would share its sections
                config.seed = seed
                config.equivariance.weight = weight
                results[weight].append(finished_run(config, workdir / f"lambda_{weight:g}_seed_{seed}"))
        rows: dict[tuple[str, ...], list[Summary]] = {
            ("CARE" if weight else "SimCLR", f"{weight:g}"): summaries for weight, summaries in results.items()
        }
        text = "\n".join([table(["method", "lambda"], rows), "", *verdicts(results)])
        write_table(workdir, text)
        print(text, flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--config=configs/digits.py"))
