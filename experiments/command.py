"""The command of every experiment: its flags, the runs that are missing, the table."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, parse_flags, say, user_errors
from care_jax.devices import compilation_cache, sharding
from care_jax.experiment import build
from care_jax.storage import local_path, replace_file
from care_jax.workdir import writing
from experiments import processes
from experiments.runs import Run, finished, finished_run
from experiments.table import Summary, Table, configured, markdown


def start(make_table: Callable[[ml_collections.ConfigDict], Table], *, workdir: str) -> None:
    """Runs an experiment, whose module has defined flags of its own before.

    Args:
      make_table: the configuration of all rows -> the table.
      workdir: where the runs go by default.
    """
    config_flags.DEFINE_config_file("config", "configs/digits.py", "The configuration.", lock_config=True)
    flags.DEFINE_string("workdir", workdir, "Folder of the runs and of the table.")
    flags.DEFINE_integer("seeds", 3, "Training seeds, from 0.", lower_bound=1)
    flags.DEFINE_integer("jobs", 1, "Runs at a time, each with its share of the cores or GPUs.", lower_bound=1)
    flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for later runs.")
    given = flags.FLAGS

    def main(argv: list[str]) -> None:
        del argv
        logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant
        with user_errors():
            compilation_cache.switch_on(given.compilation_cache, warn=say)
            workdir = local_path(given.workdir, "--workdir")
            table = make_table(given.config)
            print(run_table(table, given.config, workdir, seeds=given.seeds, jobs=given.jobs), flush=True)

    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--config=configs/digits.py"))


def run_table(table: Table, config: ml_collections.ConfigDict, workdir: Path, *, seeds: int, jobs: int = 1) -> str:
    """Makes the runs that are missing, and the table of all, which goes to `table.md` too.

    Args:
      table: its rows, columns and comparisons.
      config: of all rows.
      workdir: has a folder a run.
      seeds: training seeds a row, from 0.
      jobs: runs at a time.

    Returns:
      The table, in Markdown.

    Raises:
      UserError: one line. Before any run is made: settings that do not go together, a folder that holds other settings
        or data, more jobs than cores or GPUs. Later: what ends a run; what was made before stays.
    """
    shares = processes.shares(jobs) if jobs > 1 else []
    if shares:
        jax.config.update("jax_platforms", "cpu")  # the devices are for the runs
    rows = {
        name: [Run(configured(config, row, seed), workdir / f"{name}_seed_{seed}") for seed in range(seeds)]
        for name, row in table.rows.items()
    }
    runs = [run for of_row in rows.values() for run in of_row]
    mesh = sharding.make_mesh()
    for run in runs:
        build.check(run.config, mesh)
    found = {run.workdir: summary for run in runs if (summary := finished(*run)) is not None}
    missing = [run for run in runs if run.workdir not in found]
    if missing:
        say(progress(list(found.values()), len(runs), jobs))
    for run in processes.make(missing, shares) if shares else missing:
        found[run.workdir] = finished_run(*run)
        say(progress(list(found.values()), len(runs), jobs))
    text = markdown(table, {name: [found[run.workdir] for run in of_row] for name, of_row in rows.items()})
    with writing(workdir):
        replace_file(workdir / "table.md", text + "\n")
    return text


def progress(finished: Sequence[Summary], total: int, jobs: int) -> str:
    """How far a table is, and the time left by the mean of the seconds that its finished runs took.

    >>> progress([{"seconds": 60.0}, {"seconds": 120.0}], total=10, jobs=2)
    '2 of 10 runs are finished, about 6 min left'
    """
    line = f"{len(finished)} of {total} runs are finished"
    if not finished or len(finished) == total:
        return line
    left = float(np.mean([summary["seconds"] for summary in finished])) * (total - len(finished)) / jobs
    return f"{line}, about {left / 60:.0f} min left" if left > 90 else f"{line}, about {left:.0f} s left"


def numbers(flag: str, text: str) -> list[float]:
    """Those of a flag, by commas; none of an empty one.

    Raises:
      UsageError: one of them is no number.
    """
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(f"{flag}={text}: give numbers with commas, 0,0.1,0.3 for instance") from error
