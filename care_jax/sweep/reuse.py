"""Runs of other tables that are what a table asks for: copied, not made again."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from care_jax.command_line import UsageError, say
from care_jax.errors import UserError
from care_jax.experiment.continuation import changes
from care_jax.storage import flush_tree
from care_jax.sweep.runs import Run, finished, made_with, run_folders
from care_jax.workdir import writing

# The folder of a run that logs elsewhere has the names of its runs there: two folders would write to one. And a lock is
# a process's.
_OWN = ("loggers.json", "lock")


def take_over(runs: Iterable[Run], folders: Sequence[Path]) -> int:
    """Copies finished runs of the same settings, seed among them, to where runs are to be; what is there already stays.

    Args:
      runs: that a table asks for.
      folders: of other tables, each with a folder ROW_seed_N a run.

    Returns:
      How many were copied.

    Raises:
      UsageError: one of the folders has no finished run.
      WorkdirError: a copy can't be written.
    """
    others = [run for folder in folders for run in finished_in(folder)]
    copied = 0
    for run in runs:
        if not run.workdir.exists() and (same := _same(run, others)):
            say(f"{run.workdir} has the settings of {same}, and is a copy of it")
            _copy(same, run.workdir)
            copied += 1
    return copied


def finished_in(folder: Path) -> list[Run]:
    """The finished runs of a table, with the settings that their summaries were made with.

    Raises:
      UsageError: there is none.
    """
    found = []
    for workdir in run_folders(folder):
        if not (workdir / "summary.json").exists():
            continue
        try:
            found.append(Run(made_with(workdir), workdir))
        except UserError as error:
            say(f"{workdir} is not taken over: {error}")
    if not found:
        raise UsageError(f"--reuse={folder} has no finished run; give a table's folder, with folders ROW_seed_N")
    return found


def _same(run: Run, others: Sequence[Run]) -> Path | None:
    """The first that has the settings of a run, on data that is still the same, and is of its last step."""
    for config, workdir in others:
        if not changes(config, run.config):
            try:
                finished(run.config, workdir)
                return workdir
            except UserError as error:
                say(f"{workdir} is not taken over: {error}")
    return None


def _copy(source: Path, target: Path) -> None:
    """All at once: a copy that ends in the middle is none."""
    draft = target.with_name(f".{target.name}.copy")
    with writing(target):
        shutil.rmtree(draft, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns(*_OWN))
        flush_tree(draft)
        draft.rename(target)
