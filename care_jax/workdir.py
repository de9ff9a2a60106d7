"""The folder of a run: one process at a time, one configuration, one data set."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_collections

from care_jax import data
from care_jax.config import read_config
from care_jax.continuation import check_goes_on
from care_jax.data import DataSet
from care_jax.errors import UserError

# What a full, failing or read-only disk answers.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)


class WorkdirError(UserError, ValueError):
    """A folder that this run can't use, or can't write any more."""


@contextmanager
def claim(workdir: Path, config: ml_collections.ConfigDict) -> Iterator[None]:
    """Makes the folder, holds it for this process while the block runs, and notes the configuration in it.

    Args:
      workdir: folder of the run.
      config: of the run; another one than the folder's is refused.

    Raises:
      ConfigError: the folder holds a run with other settings.
      WorkdirError: another process trains in it, or it can't be written (also later, inside the block).
    """
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        # The lock belongs to the open file: it goes with the process, however that ends.
        with (workdir / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise WorkdirError(
                    f"--workdir={workdir} is in use: {holder} is running in it; wait for it, or use another --workdir"
                ) from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {os.uname().nodename}")
            lock.flush()
            _note_config(workdir, config)
            yield


def check_data(workdir: Path, dataset: DataSet) -> None:
    """Notes what the data set consists of, or compares it with what the run began with.

    Raises:
      DataError: it has changed: one line with the difference.
    """
    record = workdir / "data.json.gz"
    if not _holds_run(workdir):
        record.unlink(missing_ok=True)
    data.check_unchanged(dataset, record)


@contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """Turns what a full or failing disk raises into one line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS and not isinstance(error, (FileExistsError, NotADirectoryError)):
            raise
        raise WorkdirError(
            f"--workdir={workdir} can't be written: {error.strerror} ({error.filename or 'while writing'}); what was "
            "saved before is kept: make room, or use another --workdir, and start again"
        ) from error


def _note_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    path = workdir / "config.json"
    if path.exists() and _holds_run(workdir):
        check_goes_on(read_config(workdir), config, workdir)
    draft = path.with_suffix(".json.new")
    draft.write_text(json.dumps(plain(config), indent=2) + "\n")
    os.replace(draft, path)


def _holds_run(workdir: Path) -> bool:
    """Whether there is anything that a start with other settings could spoil; one that failed early left nothing."""
    saved = (workdir / "checkpoints").glob("*")
    return (workdir / "summary.json").exists() or any("tmp" not in folder.name for folder in saved)


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The configuration as JSON would return it."""
    return json.loads(json.dumps(config.to_dict()))
