"""A table whose runs are made where they are missing: what an experiment is, once its rows are declared."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from matplotlib.figure import Figure

from care_jax import loggers
from care_jax.command_line import UsageError, say
from care_jax.devices import sharding
from care_jax.errors import UserError
from care_jax.experiment import build
from care_jax.storage import replace_file
from care_jax.sweep import processes
from care_jax.sweep.reuse import take_over
from care_jax.sweep.runs import Run, finished, finished_run
from care_jax.sweep.table import Results, Summary, Table, as_json, configured, markdown
from care_jax.workdir import writing


class RunError(UserError):
    """A run of a table ended before it was finished."""


class Picture(NamedTuple):
    """What a table looks like.

    Attributes:
      file: its name in the table's folder.
      draw: of the table and its results.
    """

    file: str
    draw: Callable[[Table, Results], Figure]


def run_table(
    table: Table,
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    seeds: int,
    jobs: int = 1,
    picture: Picture | None = None,
    reuse: Sequence[Path] = (),
    further: Callable[[Table, Results], str] | None = None,
) -> str:
    """Makes the runs that are missing, and the table of all, which goes to `table.md`, its numbers to `table.json`.

    Args:
      table: its rows, columns and comparisons.
      config: of all rows.
      workdir: has a folder a run.
      seeds: training seeds a row, from 0.
      jobs: runs at a time.
      picture: drawn beside the table.
      reuse: folders of other tables, of which a run with the settings of a missing one is copied.
      further: what stands below the table, of the table and its results.

    Returns:
      The table, in Markdown.

    Raises:
      UserError: one line. Before any run is made: no rows, settings that do not go together, a folder that holds other
        settings or data, more jobs than cores or GPUs. Later: what ends a run; what was made before stays.
    """
    if not table.rows:
        raise UsageError(
            f"this table has no rows: nothing is made, and {workdir} stays as it is; give the flags that its rows are "
            "made of a value or more"
        )
    shares = processes.shares(jobs) if jobs > 1 else []
    if shares:
        jax.config.update("jax_platforms", "cpu")  # the devices are for the runs
    rows = {
        name: [Run(configured(config, row.settings, seed), workdir / f"{name}_seed_{seed}") for seed in range(seeds)]
        for name, row in table.rows.items()
    }
    runs = [run for of_row in rows.values() for run in of_row]
    loggers.check_installed(loggers.chosen(config.train.loggers))
    mesh = sharding.make_mesh()
    for run in runs:
        build.check(run.config, mesh)
    if reuse:
        take_over(runs, reuse)
    found = {run.workdir: summary for run in runs if (summary := finished(*run)) is not None}
    missing = [run for run in runs if run.workdir not in found]
    if missing:
        say(progress(list(found.values()), len(runs), jobs))
    with closing(_made(missing, shares)) as made:
        for run in made:
            found[run.workdir] = finished_run(*run)
            say(progress(list(found.values()), len(runs), jobs))
    results = {name: [found[run.workdir] for run in of_row] for name, of_row in rows.items()}
    text = "\n\n".join(filter(None, [markdown(table, results), further(table, results) if further else ""]))
    if gone := left_out(workdir / "table.json", _runs_of, {name: len(of_row) for name, of_row in results.items()}):
        say(f"{workdir}: table.md and table.json are written {gone}")
    with writing(workdir):
        replace_file(workdir / "table.md", text + "\n")
        replace_file(workdir / "table.json", as_json(table, results))
        if picture:
            picture.draw(table, results).savefig(workdir / picture.file, dpi=110)
    return text


def left_out(path: Path, runs_of: Callable[[Any], Mapping[str, int]], now: Mapping[str, int]) -> str:
    """Which rows a JSON file has that the one in its place will lack, or will have fewer seeds of.

    Args:
      path: of the file.
      runs_of: what is read from it -> runs of each row.
      now: runs of each row that there will be.

    Returns:
      The end of a line; empty where nothing goes.
    """
    try:
        before = runs_of(json.loads(path.read_text()))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        return f"anew: what was there can't be read ({error!r})"
    fewer = {name: (count, now.get(name, 0)) for name, count in before.items() if count > now.get(name, 0)}
    if not fewer:
        return ""
    told = [f"{name} ({there} seeds there, {here} now)" if here else name for name, (there, here) in fewer.items()]
    return f"without what was there of {', '.join(told)}; the runs stay, and the command that wrote it writes it again"


def _runs_of(table: Any) -> dict[str, int]:
    return {name: len(row["runs"]) for name, row in table["rows"].items()}


def _made(runs: Sequence[Run], shares: Sequence[processes.Share]) -> Generator[Run, None, None]:
    """The runs, in the order in which they are finished; without shares, in that in which they are to be made here."""
    if not shares:
        yield from runs
        return
    with closing(processes.make(runs, shares)) as ended:
        for run, problem, _ in ended:
            if problem:
                raise RunError(
                    f"{run.workdir} is not finished: {problem}; the other runs are saved, and the same command goes on"
                )
            yield run


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
