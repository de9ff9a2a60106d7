"""Files as a run found them when it began, and their reading: one that changed since stops the run."""

import contextlib
import dataclasses
import errno
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
# What a link to nowhere, or to itself, answers.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# What a file that was there answers when it is not any more; ESTALE on NFS.
_GONE = (*_NOWHERE, errno.EISDIR, errno.ESTALE)
# What is the file's own fault, and so the same whenever it is asked for: there is none, it may not be read, it is too
# large. Everything else may pass, as the outage of a disk or a mount does.
_OWN_FAULTS = (*_NOWHERE, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EFBIG)


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
    """Looks up the sizes of files, given by their paths below `root`; raises what `look_up` does."""
    return Listing(os.fspath(root), names, look_up(root, names)[0])


def look_up(root: str | os.PathLike[str], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Looks at each of n files once, given by their paths below `root`.

    Returns:
      sizes: int64 [n], bytes; `UNKNOWN_SIZE` for what is no file (a link to nowhere).
      identities: uint64 [n, 2], device and inode: equal for the names of one file; zeros where they are not known.

    Raises:
      OSError: one can't be looked at, for another reason than that there is none.
    """
    root = os.fspath(root)
    sizes = np.empty(len(names), np.int64)
    identities = np.empty((len(names), 2), np.uint64)

    def look(rows: range) -> None:
        found = [file_at(os.path.join(root, names[row])) for row in rows]
        part = slice(rows.start, rows.stop)
        sizes[part] = [UNKNOWN_SIZE if file is None else file.st_size for file in found]
        identities[part] = np.array([(0, 0) if f is None else (f.st_dev, f.st_ino) for f in found], np.uint64)

    parts = [range(row, min(row + _FILES_A_TASK, len(names))) for row in range(0, len(names), _FILES_A_TASK)]
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(look, parts):
            pass
    return sizes, identities


@contextlib.contextmanager
def open_unchanged(path: str, size: int) -> Iterator[BinaryIO]:
    """Opens a file, unbuffered, that had `size` bytes when the run began.

    Raises:
      DataError: it is gone, has another size, or can't be read for what is no fault of its own (`check_own_fault`):
        batches would no longer be a function of the seed and the step.
      OSError: it can't be opened for a reason of its own.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise DataError(_changed(path, f"has {found} bytes, not {size}"))
            yield file  # type: ignore[misc]  # unbuffered, its stub is another class
    except OSError as error:
        if error.errno in _GONE:
            raise DataError(_changed(path, "is gone")) from error
        check_own_fault(path, error)
        raise


def check_own_fault(path: str, error: OSError) -> None:
    """Whether a file may be left out for an error: one that is its own fault, or that no system told of.

    Left out for another, such as a disk that does not answer for a minute, it would be missed for the rest of the
    process, and another image in its place would make other batches than the same steps had elsewhere.

    Raises:
      DataError: it may not.
    """
    if error.errno is not None and error.errno not in _OWN_FAULTS:
        raise DataError(
            f"{path} can't be read now ({error.strerror or error}): start the same command again, a run goes on from "
            "its last checkpoint; if that does not help, put a copy of the file in its place; or take it away, if no "
            "run has begun with it"
        ) from error


def _changed(path: str, how: str) -> str:
    return (
        f"{path} {how}: the image set changed under the run; "
        "put it back as it was and start the same command again, or begin anew with another workdir"
    )


def file_at(path: str) -> os.stat_result | None:
    """What a path leads to; None if that is no file. An OSError where it can't be looked at."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno not in _NOWHERE:
            raise
        return None
    return found if stat.S_ISREG(found.st_mode) else None
