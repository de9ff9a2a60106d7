"""Paths as people give them, and files that are written whole or not at all and outlast a power cut."""

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from care_jax.errors import UserError

# What file systems answer that flush nothing, or no folders.
_NOT_IMPLEMENTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class PathError(UserError, ValueError):
    """A path that can't be used: the message names the setting and says what to give."""


def replace_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file under another name, flushes it to the disk, then gives it its name: a reader never sees half of it.

    Args:
      path: of the file; what it held before is there until all of `content` is.
      content: text is written as UTF-8.

    Raises:
      OSError: it can't be written; what was there before still is.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            flush(file.fileno())
        os.replace(draft, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):  # the draft's name says nothing to who reads of it
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    flush_folder(path.parent)


@contextlib.contextmanager
def writing_to(path: Path, setting: str) -> Iterator[None]:
    """Turns what a file system answers in the block into one line that names the setting.

    Raises:
      PathError: the system refuses to write.
    """
    try:
        yield
    except OSError as error:
        raise PathError(f"{setting}={path}: can't write there ({error.strerror or error})") from error


def check_writable(path: Path, setting: str) -> None:
    """Whether a file can be written there, before the work that is to fill it; nothing is left, or changed.

    Args:
      path: of the file.
      setting: the flag that it is the value of, for the message.

    Raises:
      PathError: it can't.
    """
    with writing_to(path, setting):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder; give the name of a file")
        draft = path.with_name(f".{path.name}.{os.getpid()}.new")
        draft.touch()
        draft.unlink()


@contextlib.contextmanager
def folder_for(path: Path, files: Sequence[str], setting: str) -> Iterator[None]:
    """Makes a folder for files before the work of the block that is to fill them; what it made goes if the block fails.

    Args:
      path: of the folder.
      files: their names.
      setting: the flag that it is the value of, for the message.

    Raises:
      PathError: they can't be written there.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    with writing_to(path, setting):
        path.mkdir(parents=True, exist_ok=True)
    try:
        for name in files:
            check_writable(path / name, setting)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # one that holds something
            for folder in new:
                folder.rmdir()
        raise


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Makes the names of a folder's files, new and changed ones, outlast a power cut."""
    _flush_path(folder)


def _flush_path(path: str | os.PathLike[str]) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder may let its files be written, and not be read itself
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def is_url(text: str) -> bool:
    """Whether a path is in fact an address, `gs://bucket/folder` for instance."""
    return re.match(r"\w[\w+.-]*://", text) is not None


def local_path(text: str, setting: str) -> Path:
    """A path as people give it: `~` and `~name` are home folders, as a shell has them.

    Args:
      text: the path.
      setting: the flag or setting that it is the value of, for the message.

    Raises:
      PathError: an address rather than a path, or a path that no system takes.
    """
    if is_url(text):
        raise PathError(
            f"{setting}={text} is an address; a local or mounted folder is needed (gcsfuse mounts gs://, s3fs mounts s3://)"
        )
    if "\0" in text:
        raise PathError(f"{setting}={text} has a NUL character in it, which no path may have")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no such user, or no home
        raise PathError(f"{setting}={text}: {error}; give the folder's own path") from error


def flush_tree(folder: str | os.PathLike[str]) -> None:
    """Makes all that lies in a folder outlast a power cut, files first."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            _flush_path(os.path.join(path, name))
        flush_folder(path)


def flush(descriptor: int) -> None:
    """Hands an open file to the disk, where its file system knows how to."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_IMPLEMENTED:
            raise


def set_aside(path: str | os.PathLike[str]) -> Path:
    """Renames what is damaged, file or folder, to `<name>.damaged`, or the same with a number: nothing is lost.

    Returns:
      Where it is now.
    """
    path = Path(path)
    names = (path.with_name(f"{path.name}.damaged{f'-{i}' if i else ''}") for i in itertools.count())
    aside = next(name for name in names if not os.path.lexists(name))
    path.rename(aside)
    return aside


def is_same_file(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Whether an open file is still the one that its path leads to."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
