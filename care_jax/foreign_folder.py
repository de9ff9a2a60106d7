"""A folder that others' files lie in, under names that a run would write to."""

import json
from pathlib import Path

from care_jax.errors import UserError

_SECTIONS = {"data", "model", "train"}  # that every configuration of a run has
_HOLDER = "process "  # how a lock begins
_OF_FINISHED_RUNS = ("summary.json", "report.html")


class ForeignFolderError(UserError, ValueError):
    """A file in the folder is not of a run, and would be overwritten."""


def check_lock(workdir: Path) -> None:
    """Whether a lock in the folder is of care_jax.

    Not to be asked by who holds it: closing the file gives up some kinds of locks.

    Raises:
      ForeignFolderError: it is another program's.
      OSError: the folder can't be read.
    """
    lock = workdir / "lock"
    if lock.exists() and not (lock.is_file() and _is_lock(lock)):
        raise _error(workdir, lock.name)


def check(workdir: Path) -> None:
    """Whether what a run would overwrite in a folder is of a run: its settings, its numbers.

    A damaged config.json, and all that lies beside checkpoints, is taken for a run's.

    Args:
      workdir: the folder, which need not be there.

    Raises:
      ForeignFolderError: a file is not.
      OSError: the folder can't be read.
    """
    if any(folder.name.isdigit() for folder in (workdir / "checkpoints").glob("*")):
        return
    config = workdir / "config.json"
    if config.exists():
        foreign = [] if _is_settings(config) else [config.name]
    else:  # a run that has numbers has settings
        foreign = [name for name in _OF_FINISHED_RUNS if (workdir / name).exists()]
    if foreign:
        raise _error(workdir, foreign[0])


def _is_settings(path: Path) -> bool:
    try:
        settings = json.loads(path.read_bytes())
    except (ValueError, RecursionError, IsADirectoryError):
        return True  # damaged
    return isinstance(settings, dict) and settings.keys() >= _SECTIONS


def _is_lock(path: Path) -> bool:
    with path.open("rb") as lock:
        begins = lock.read(len(_HOLDER))
    return begins in (b"", _HOLDER.encode())


def _error(workdir: Path, name: str) -> ForeignFolderError:
    return ForeignFolderError(
        f"--workdir={workdir} holds a {name} that is of no run of care_jax and would be overwritten: give a folder of "
        "its own, which need not exist"
    )
