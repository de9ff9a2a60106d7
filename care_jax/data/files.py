"""Files as a run found them when it began, and their reading: one that changed since stops the run."""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from care_jax.data.errors import DataError

_THREADS = 16  # they wait for the disk, or for the network behind it
_FILES_A_TASK = 4096
UNKNOWN_SIZE = -1


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files in the order that a run indexes them by.

    Attributes:
      root: their folder. It may move between two runs, so nothing is compared with it.
      names: n paths below it.
      sizes: int64 [n], bytes; `UNKNOWN_SIZE` for what could not be looked at or is no file (a link to nowhere).
    """

    root: str
    names: Sequence[str]
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> str:
        """Where file `index` in [0, n) lies."""
        return os.path.join(self.root, self.names[index])

    def select(self, rows: np.ndarray) -> "Listing":
        """The files of some rows, int [m]."""
        return Listing(self.root, [self.names[i] for i in rows], self.sizes[rows])


def list_files(root: str | os.PathLike[str], names: Sequence[str]) -> Listing:
    """Looks up the sizes of files, given by their paths below `root`."""
    root = os.fspath(root)
    sizes = np.empty(len(names), np.int64)

    def look_up(rows: range) -> None:
        sizes[rows.start : rows.stop] = [_size(os.path.join(root, names[row])) for row in rows]

    parts = [range(row, min(row + _FILES_A_TASK, len(names))) for row in range(0, len(names), _FILES_A_TASK)]
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(look_up, parts):
            pass
    return Listing(root, names, sizes)


@contextlib.contextmanager
def open_unchanged(path: str, size: int) -> Iterator[BinaryIO]:
    """Opens a file, unbuffered, that had `size` bytes when the run began.

    Raises:
      DataError: it is gone, or has another size: batches would no longer be a function of the seed and the step.
      OSError: it can't be opened for a reason of its own.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise DataError(_changed(path, f"has {found} bytes, not {size}"))
            yield file  # type: ignore[misc]  # unbuffered, its stub is another class
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(_changed(path, "is gone")) from error


def shown(name: str) -> str:
    """A file's name as one line of a message takes it."""
    return name if name.isprintable() else ascii(name)


def _changed(path: str, how: str) -> str:
    return (
        f"{shown(path)} {how}: the image set changed under the run; "
        "put it back as it was and start the same command again, or begin anew with another workdir"
    )


def _size(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError:
        return UNKNOWN_SIZE
    return found.st_size if stat.S_ISREG(found.st_mode) else UNKNOWN_SIZE
