"""A grid of settings, several seeds each: `python -m care_jax.sweep --config=configs/digits.py --workdir=runs/sweep`.

    ... --set equivariance.weight=0,0.03,0.3 --seeds=3 [--jobs=2] [--dry_run]

Several --set make all combinations. Tuples stand in brackets, (1,2),(3,4); --config.x=y is of all runs. Each run is an
ordinary workdir, runs/sweep/equivariance.weight=0.03/seed=1; finished ones are not made again. The table, mean ±
standard deviation over the seeds, goes to standard output and to sweep.md, sweep.json and compare.html in the folder.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("every run is saved where it was; the same command goes on")
    extras.require_train()

import sys
from collections.abc import Iterable

from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, fail, given_settings, parse_flags, say, user_errors
from care_jax.devices import compilation_cache
from care_jax.storage import local_path

FLAGS = flags.FLAGS
flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for later runs.")
try:
    config_flags.DEFINE_config_file("config", None, "The configuration of all runs.", lock_config=True)
except flags.Error as error:  # a --flagfile that can't be read, which ml_collections opens here
    fail(str(error))
flags.DEFINE_string("workdir", None, "Folder of the sweep; each run gets a folder in it.")
flags.DEFINE_multi_string(
    "set", [], "A setting and its values, equivariance.weight=0,0.03 for instance; may be given again."
)
flags.DEFINE_integer("seeds", 3, "Training seeds of each combination, from --config.seed on.", lower_bound=1)
flags.DEFINE_integer("jobs", 1, "Runs at a time, each with its share of the cores or GPUs.", lower_bound=1)
flags.DEFINE_bool("dry_run", False, "Say what would be made, and make nothing.")


def main(argv: list[str]) -> None:
    """Wires the flags to a sweep."""
    del argv
    logging.set_verbosity(logging.ERROR)
    with user_errors():
        compilation_cache.switch_on(FLAGS.compilation_cache, warn=say)  # for the processes of the runs too
        if not FLAGS.workdir:
            raise UsageError("--workdir is missing: the folder of the sweep, --workdir=runs/sweep for instance")
        workdir = local_path(FLAGS.workdir, "--workdir")
        import jax  # takes its time, a mistyped flag should answer at once

        from care_jax.experiment import extensions
        from care_jax.sweep import course, grid, plan, processes

        jax.config.update("jax_platforms", "cpu")  # the devices are for the runs
        shares = processes.shares(FLAGS.jobs) if FLAGS.jobs > 1 else [processes.ALL]
        extensions.load(FLAGS.config)
        chosen = grid.parse(FLAGS["set"].value or ())
        _check_once(chosen)
        planned = plan.make(FLAGS.config, chosen, workdir, FLAGS.seeds)
        for line in plan.without_effect(planned, given_settings()):
            say(line)
        if FLAGS.dry_run:
            print(plan.dry_run(planned), flush=True)
            return
        text, failed = course.run(planned, shares)
        print(text, flush=True)
        if failed:
            raise UsageError(course.told(planned, failed))


def _check_once(chosen: Iterable[str]) -> None:
    """A setting is swept, or is the same in all runs."""
    for name in chosen:
        if any(word.lstrip("-").partition("=")[0] == f"config.{name}" for word in sys.argv[1:]):
            raise UsageError(f"{name} is given by --set and by --config.{name}: leave one of them out")


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--config=configs/digits.py"))
