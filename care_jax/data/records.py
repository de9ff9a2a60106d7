"""Random access to data sets prepared by TensorFlow Datasets: any example at any time, so that any step can be made.

ArrayRecord files are made for that. A TFRecord file is a chain of lengths and bytes, so it is walked once to learn
where its records start. Labels lie in the records too: finding them reads the data set once, and both are then kept
in one small file a split (record_index.py).
"""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from care_jax.data.errors import DataError
from care_jax.data.files import open_unchanged
from care_jax.data.record_index import Index

# A record: length (uint64, little endian), its CRC (uint32), as many bytes of data, their CRC (uint32).
_LENGTH = struct.Struct("<Q")
_BEFORE_DATA, _AFTER_DATA = 12, 4
_SCAN_THREADS = 16  # they wait for the disk
_SCAN_ROWS = 256


class RecordSource(Protocol):
    """Features of example i by name, by any thread."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class TfrecordSource:
    """The examples of TFRecord files, read where they lie.

    Args:
      paths: local files, in order.
      starts: for each file where its records start, and where the last one ends; from `find_records`.
      deserialize: bytes of a record -> its features.
    """

    def __init__(
        self, paths: Sequence[str], starts: Sequence[np.ndarray], deserialize: Callable[[bytes], Mapping[str, Any]]
    ):
        self._paths = tuple(paths)
        self._starts = tuple(starts)
        self._deserialize = deserialize
        self._first = np.cumsum([0, *(len(s) - 1 for s in starts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        file = int(np.searchsorted(self._first, index, side="right")) - 1
        start, stop = self._starts[file][index - self._first[file] :][:2].tolist()
        # Opened anew: more shards than a process may hold open are common, and the price is microseconds.
        with open_unchanged(self._paths[file], int(self._starts[file][-1])) as opened:
            data = os.pread(opened.fileno(), stop - start - _BEFORE_DATA - _AFTER_DATA, start + _BEFORE_DATA)
        return self._deserialize(data)


def index_tfrecords(
    index: Index, deserialize: Callable[[bytes], Mapping[str, Any]], description: str
) -> tuple[TfrecordSource, np.ndarray]:
    """Opens TFRecord files for random access, and gives the label of every example, int32 [n].

    Args:
      index: of the files.
      deserialize: bytes of a record -> its features, "label" among them.
      description: of the records, for messages.

    Raises:
      DataError: a file is not a whole TFRecord file, or the index is of other files.
    """

    paths = index.files

    def build() -> dict[str, np.ndarray]:
        with ThreadPoolExecutor(_SCAN_THREADS) as threads:
            starts = list(threads.map(find_records, paths))
        labels = read_labels(TfrecordSource(paths, starts, deserialize), description)
        return {"labels": labels, "starts": np.concatenate(starts), "counts": np.asarray([len(s) for s in starts])}

    arrays = index.read(("labels", "starts", "counts"), build)
    starts = np.split(arrays["starts"], np.cumsum(arrays["counts"])[:-1])
    if [int(s[-1]) for s in starts] != [os.path.getsize(path) for path in paths]:
        raise DataError(f"{index.path} does not belong to {os.path.dirname(paths[0])}: delete it")
    return TfrecordSource(paths, starts, deserialize), arrays["labels"]


def find_records(path: str | os.PathLike[str]) -> np.ndarray:
    """Where the n records of a TFRecord file start, and where the last one ends: int64 [n + 1].

    Raises:
      DataError: the file is cut off, or is no TFRecord file.
    """
    size = os.path.getsize(path)
    starts = [0]
    with open(path, "rb", buffering=0) as file:
        while starts[-1] < size:
            header = os.pread(file.fileno(), _LENGTH.size, starts[-1])
            length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else size
            starts.append(starts[-1] + _BEFORE_DATA + length + _AFTER_DATA)
    if starts[-1] != size:
        raise DataError(f"{path} is cut off, or no TFRecord file: prepare the data set again")
    return np.asarray(starts, np.int64)


class RecordImages:
    """`EncodedImages` that are rows of a `RecordSource` with the features "image" and (for messages) "file_name"."""

    def __init__(self, source: RecordSource, rows: np.ndarray, description: str):
        self._source = source
        self._rows = rows
        self._description = description

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> bytes:
        """The encoded image of row `index`.

        Raises:
          OSError: the record can't be read.
          DataError: its file has changed since it was opened.
        """
        try:
            return self._source[int(self._rows[index])]["image"]
        except (DataError, OSError, MemoryError):
            raise
        except Exception as error:  # of whichever library takes records apart
            raise OSError(f"damaged record ({type(error).__name__})") from error

    def name(self, index: int) -> str:
        row = int(self._rows[index])
        try:
            file_name = self._source[row].get("file_name", b"")
        except Exception:  # the one who asks may be telling that the record can't be read
            file_name = b""
        return f"{self._description} record {row} {os.fsdecode(file_name)}".rstrip()


def read_labels(source: RecordSource, description: str) -> np.ndarray:
    """The feature "label" of every example, int32 [n]; reads the whole source, and shows how far it is."""
    labels = np.empty(len(source), np.int32)

    def read(rows: range) -> int:
        labels[rows.start : rows.stop] = [source[row]["label"] for row in rows]
        return len(rows)

    parts = [range(row, min(row + _SCAN_ROWS, len(source))) for row in range(0, len(source), _SCAN_ROWS)]
    with (
        ThreadPoolExecutor(_SCAN_THREADS) as threads,
        tqdm(desc=f"reading the labels of {description}, once", total=len(source), disable=None) as progress,
    ):
        for count in threads.map(read, parts):
            progress.update(count)
    return labels
