"""What is measured: two arrays from anywhere, --embeddings=before.npy,after.npy."""

import hashlib
from collections.abc import Sequence

import numpy as np

from care_jax.command_line import UsageError
from care_jax.data import DataError
from care_jax.storage import local_path


def read(files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings before and after one augmentation, [n, d] each.

    Raises:
      UsageError: there are not two files, or one can't be read.
      DataError: what is in them are not two such arrays, of numbers that are finite.
    """
    if len(files) != 2:
        raise UsageError(f"--embeddings={','.join(files)}: give two files, before.npy,after.npy")
    arrays = []
    for file in files:
        try:
            array = np.load(local_path(file, "--embeddings"), allow_pickle=False)
        except OSError as error:
            raise UsageError(f"--embeddings: {file} can't be read: {error.strerror or error}") from error
        except (ValueError, EOFError) as error:
            raise UsageError(f"--embeddings: {file} is no array that NumPy saved: {error}") from error
        if (
            not isinstance(array, np.ndarray)
            or array.ndim != 2
            or array.dtype.kind not in "fiu"
            or len(array) < 4
            or not array.size
        ):
            what = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
            raise DataError(f"{file} is {what}; give numbers [n, d] with n of at least 4")
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise DataError(f"{file} is not finite, first in row {row}")
        arrays.append(array)
    if arrays[0].shape != arrays[1].shape:
        raise DataError(f"{files[0]} is {list(arrays[0].shape)}, {files[1]} {list(arrays[1].shape)}: give equal shapes")
    return arrays[0], arrays[1]


def digest(array: np.ndarray) -> str:
    """SHA-256 over type, shape and bytes."""
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
