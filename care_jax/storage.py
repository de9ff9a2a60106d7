"""What every file of a run has in common: it is written whole or not at all, and a power cut does not take it back."""

import contextlib
import errno
import itertools
import os
from pathlib import Path

# What file systems answer that flush nothing, or no folders.
_NOT_IMPLEMENTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


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
