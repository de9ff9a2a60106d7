"""The folder of a run: one process at a time, one configuration, one data set."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import ml_collections
from absl import logging

from care_jax import data, failed_start, foreign_folder, storage
from care_jax.data import DataSet
from care_jax.errors import UserError
from care_jax.experiment.choice import filled
from care_jax.experiment.config import ConfigError, UnreadableConfigError, read_config
from care_jax.experiment.continuation import check_goes_on, kept_choices, rounded_otherwise
from care_jax.loggers.kept import forget
from care_jax.train import checkpoint_files

# What file systems answer that have no locks of one kind.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
# What file systems answer, local and shared ones: of a disk that is full, failing or read-only, of a server that is out
# of reach, of a name that can't be one. Not every system knows all of them.
_NAMES = """
ENOSPC EDQUOT EFBIG EIO EROFS EACCES EPERM ENODEV ENXIO ENOMEDIUM EMEDIUMTYPE EUCLEAN EBADMSG EBUSY ETXTBSY ESTALE
ENOLCK EDEADLK EAGAIN ETIMEDOUT ENOTCONN ESHUTDOWN EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH EREMOTEIO EREMOTE ECOMM
EPROTO ENOLINK ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED ENOSYS EOPNOTSUPP ENOTSUP ENAMETOOLONG ELOOP EINVAL EILSEQ
EEXIST ENOTDIR EISDIR ENOTEMPTY EXDEV EMLINK EOVERFLOW EMFILE ENFILE ENOMEM
"""
_FILE_SYSTEM_ERRORS = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}
# What the longest path below a workdir adds to it, in bytes: a draft of a part of an array of a checkpoint.
_LONGEST_BELOW = 300


class WorkdirError(UserError, ValueError):
    """A folder that this run can't use, or can't write any more."""


class Claim:
    """A workdir that this process holds.

    Attributes:
      kept: what the run that is in it chose for settings that have no value in the configuration it is claimed with.

    Args:
      workdir: the folder.
      lock: its open lock file.
    """

    def __init__(self, workdir: Path, lock: TextIO):
        self.kept: dict[str, Any] = {}
        self._workdir = workdir
        self._lock = lock

    def note(self, config: ml_collections.ConfigDict) -> None:
        """Keeps the configuration with all that was chosen, for a run that goes on and for an evaluation."""
        self.check()
        with writing(self._workdir):
            _write_config(self._workdir, config)

    def check(self) -> None:
        """Whether the folder is still there, and still the one that was claimed.

        Raises:
          WorkdirError: it was removed, renamed or replaced: what is written now would be lost, or another run's.
        """
        with writing(self._workdir):
            if not storage.is_same_file(self._lock.fileno(), self._workdir / "lock"):
                raise WorkdirError(
                    f"--workdir={self._workdir} is gone, or another folder took its place, while this run wrote to it: "
                    "put it back if it was renamed, then start again to go on from the last checkpoint in it"
                )


@contextmanager
def claim(
    workdir: Path, config: ml_collections.ConfigDict, *, warn: Callable[[str], None] = logging.warning
) -> Iterator[Claim]:
    """Makes the folder, holds it for this process while the block runs, and notes the configuration in it.

    A block that fails before its first row leaves no new folder.

    Args:
      workdir: folder of the run.
      config: of the run; another one than the folder's is refused.
      warn: told of a file system without locks, and of a damaged config.json that was made again.

    Yields:
      What tells whether the folder is still this run's.

    Raises:
      ConfigError: the folder holds a run with other settings.
      WorkdirError: another process trains in it, or it can't be written (also later, inside the block).
      ForeignFolderError: it has files that are of no run, and would be overwritten.
    """
    with writing(workdir):
        _check_name(workdir)
        foreign_folder.check(workdir)
    with hold(workdir, warn=warn) as claimed:
        claimed.kept = _note_config(workdir, config, warn)
        yield claimed


@contextmanager
def hold(workdir: Path, *, warn: Callable[[str], None] = logging.warning) -> Iterator[Claim]:
    """Makes the folder and holds it for this process while the block runs; `claim` without a configuration.

    Args:
      workdir: the folder.
      warn: told of a file system without locks.

    Yields:
      What tells whether the folder is still the one that was held.

    Raises:
      WorkdirError: another process holds it, or it can't be written (also later, inside the block).
      ForeignFolderError: as of `claim`.
    """
    with writing(workdir):
        _check_name(workdir)
        foreign_folder.check_lock(workdir)
        new = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
        workdir.mkdir(parents=True, exist_ok=True)
        storage.flush_folder(workdir.absolute().parent)
        # The lock belongs to the open file: it goes with the process, however that ends.
        with (workdir / "lock").open("a+", encoding="utf-8", errors="replace") as lock:
            if not _locked(lock, workdir):
                warn(
                    f"the file system of --workdir={workdir} has no locks: nothing keeps a second run out of it, so "
                    "start none while this one is going on"
                )
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {os.uname().nodename}")
            lock.flush()
            with failed_start.leaves_nothing(workdir, lock, new):
                yield Claim(workdir, lock)


def _check_name(workdir: Path) -> None:
    try:
        length = len(os.fsencode(workdir.absolute()))
    except ValueError as error:  # characters that no file name holds
        raise WorkdirError(f"--workdir={workdir!r} can't be the name of a folder: {error}") from error
    if "\0" in str(workdir):
        raise WorkdirError(f"--workdir={workdir!r} can't be the name of a folder: it has a null character")
    longest = os.pathconf("/", "PC_PATH_MAX") - _LONGEST_BELOW
    if length > longest:
        raise WorkdirError(
            f"--workdir={workdir} is a path of {length} bytes; at most {longest} leave room for the names of its files"
        )
    if workdir.exists() and not workdir.is_dir():
        raise WorkdirError(f"--workdir={workdir} can't be written: it is a file; give the name of a folder")


def _locked(lock: TextIO, workdir: Path) -> bool:
    """Whether the file is locked now: where the file system has no locks of the first kind, by the second.

    Raises:
      WorkdirError: another process has locked it.
    """
    for take in (fcntl.flock, fcntl.lockf):
        try:
            take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            held = isinstance(error, BlockingIOError) or (take is fcntl.lockf and error.errno == errno.EACCES)
            if held:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise WorkdirError(
                    f"--workdir={workdir} is in use: {holder} is running in it; wait for it, or use another --workdir"
                ) from None
            if error.errno not in _NO_LOCKS:
                raise
    return False


def check_data(workdir: Path, dataset: DataSet) -> None:
    """Notes what the data set consists of, or compares it with what the run began with.

    Raises:
      DataError: it has changed: one line with the difference.
    """
    record = workdir / "data.json.gz"
    if not holds_run(workdir):
        record.unlink(missing_ok=True)
    data.check_unchanged(dataset, record)


@contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """Turns what a file system answers, full, failing or out of reach, into one line for the user."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
        folder, place = workdir.absolute(), Path(where).absolute()
        inside = bool(where) and (place.is_relative_to(folder) or folder.is_relative_to(place))
        if not inside and error.errno not in _FILE_SYSTEM_ERRORS:
            raise
        what = f"--workdir={workdir} can't be written" if inside or not where else f"{where} can't be used"
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "put that right"
        raise WorkdirError(
            f"{what}: {error.strerror or error} ({where or 'while writing'}); what was saved before is kept: {remedy}, "
            "or use another --workdir, and start again"
        ) from error


def _note_config(workdir: Path, config: ml_collections.ConfigDict, warn: Callable[[str], None]) -> dict[str, Any]:
    """What was chosen before for settings that have no value."""
    kept: dict[str, Any] = {}
    if recover_config(workdir, warn) and holds_run(workdir):
        begun = read_config(workdir)
        check_goes_on(begun, config, workdir)
        if others := rounded_otherwise(begun, config):
            warn(f"{workdir} was begun otherwise ({'; '.join(others)}): the same numbers, but for their last digits")
        kept = kept_choices(begun, config)
    if not holds_run(workdir):
        failed_start.tell_of_rows(workdir, warn)
        forget(workdir)  # a start that saved nothing may have had other settings: elsewhere, too, this is another run
    _write_config(workdir, filled(config, kept))
    return kept


def _write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    storage.replace_file(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")


def recover_config(workdir: Path, warn: Callable[[str], None] = logging.warning) -> bool:
    """Makes a missing or damaged `config.json` again from the newest checkpoint that holds the settings.

    Args:
      workdir: folder of a run.
      warn: told of it.

    Returns:
      Whether there is a configuration now; there is none, and nothing to make it of, before the first checkpoint.

    Raises:
      ConfigError: there are checkpoints, but none has the settings.
      WorkdirError: the folder can't be written.
      ForeignFolderError: it is no folder of a run.
    """
    with writing(workdir):
        return _recovered(workdir, warn)


def _recovered(workdir: Path, warn: Callable[[str], None]) -> bool:
    foreign_folder.check(workdir)
    path = workdir / "config.json"
    found = os.path.lexists(path)
    if found:
        try:
            read_config(workdir)
            return True
        except UnreadableConfigError as error:
            if not isinstance(error.__cause__, (ValueError, RecursionError, IsADirectoryError)):
                raise  # it may be whole
    folders = [folder for folder in (workdir / "checkpoints").glob("[0-9]*") if folder.name.isdigit()]
    state = "was damaged" if found else "was missing"
    for folder in sorted(folders, key=lambda folder: -int(folder.name)):
        try:
            settings = checkpoint_files.read_info(folder)["config"]
        except (checkpoint_files.CheckpointError, KeyError):
            continue
        aside = f"; the damaged one is {storage.set_aside(path).name}" if found else ""
        storage.replace_file(path, json.dumps(settings, indent=2) + "\n")
        warn(f"{path} {state}: it was made again with the settings in checkpoint {folder.name}{aside}")
        return True
    if folders:
        raise ConfigError(
            f"{path} {state}, and no checkpoint beside it holds the settings: put it back from a copy to go on, or use "
            "another --workdir"
        )
    if found:
        warn(
            f"{path} was damaged and is {storage.set_aside(path).name} now: nothing was saved yet, the run begins anew"
        )
    return False


def holds_run(workdir: Path) -> bool:
    """Whether there is anything that a start with other settings could spoil; one that failed early left nothing."""
    saved = (workdir / "checkpoints").glob("*")
    return (workdir / "summary.json").exists() or any("tmp" not in folder.name for folder in saved)


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The configuration as JSON would return it."""
    return json.loads(json.dumps(config.to_dict()))
