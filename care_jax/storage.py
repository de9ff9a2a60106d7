"""Paths as people give them, and files that are written whole or not at all and outlast a power cut."""

import os
import re
from pathlib import Path

from care_jax.errors import UserError


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
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Makes the names of a folder's files, new and changed ones, outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
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
