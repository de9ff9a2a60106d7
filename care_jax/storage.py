"""What every file of a run has in common: it is written whole or not at all, and a power cut does not take it back."""

import os
from pathlib import Path


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
