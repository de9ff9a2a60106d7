"""Embeddings written as they come, and given their name when all are there: memory for one batch at a time."""

import csv
import errno
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from care_jax import stops
from care_jax.command_line import UsageError
from care_jax.errors import UserError
from care_jax.storage import check_writable, flush, flush_folder

FORMATS = (".npy", ".parquet")
Columns = Mapping[str, Sequence[str | int]]


class WriteError(UserError, OSError):
    """A file that can't be written to its end."""


class Writer(Protocol):
    """Takes rows in order."""

    def add(self, embeddings: np.ndarray, columns: Columns) -> None:
        """Embeddings float32 [b, d], and b values a column."""


def check(path: Path) -> None:
    """Whether `writing` can begin.

    Raises:
      UsageError: another ending than .npy and .parquet; pyarrow is missing; a table beside an array is in the way.
      PathError: nothing can be written there.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"--out={path}: give a file that ends in {' or '.join(FORMATS)}")
    if path.suffix == ".parquet":
        _pyarrow()
    for file in files(path):
        check_writable(file, "--out")
        if file != path and file.exists() and not path.exists():  # no table of an earlier array
            raise UsageError(f"--out={path}: {file} is there already, and would be written over: give another name")


def files(path: Path) -> tuple[Path, ...]:
    """What is written: a table of names and labels goes beside an array."""
    return (path,) if path.suffix == ".parquet" else (path, path.with_suffix(".csv"))


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A writer of the format that a file's ending names; the files get their names when the block has ended well.

    `.npy`: float32 [n, d], and a CSV file beside it with a line a row. `.parquet`: one file, with a column `embedding`.

    Raises:
      WriteError: the disk is full, failing or gone; what was there before still is.
    """
    drafts = {file: file.with_name(f".{file.name}.{os.getpid()}.new") for file in files(path)}
    make = _parquet if path.suffix == ".parquet" else _npy
    with stops.drafts(drafts.values()):
        try:
            with make(*drafts.values()) as writer:
                yield writer
            for file, draft in drafts.items():
                os.replace(draft, file)
            flush_folder(path.absolute().parent)
        except OSError as error:
            if isinstance(error, UserError):
                raise
            remedy = "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise WriteError(f"--out={path} can't be written: {error.strerror or error}{remedy}") from error


class _Npy:
    def __init__(self, array: io.BufferedWriter, table: io.TextIOWrapper):
        self._array = array
        self._table = csv.writer(table, lineterminator="\n")
        self._shape: tuple[int, ...] = ()

    def add(self, embeddings: np.ndarray, columns: Columns) -> None:
        if not self._shape:
            self._shape = (0, embeddings.shape[1])
            self._write_header()
            self._table.writerow(columns)
        self._array.write(np.ascontiguousarray(embeddings, "<f4").tobytes())
        self._shape = (self._shape[0] + len(embeddings), self._shape[1])
        self._table.writerows(zip(*columns.values(), strict=True))

    def finish(self) -> None:
        if self._shape:
            self._array.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        """NumPy leaves room in it for the first dimension to grow."""
        header: dict[str, Any] = {"shape": self._shape, "fortran_order": False, "descr": "<f4"}
        np.lib.format.write_array_header_1_0(self._array, header)


@contextmanager
def _npy(array: Path, table: Path) -> Iterator[Writer]:
    with array.open("wb") as numbers, table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as names:
        writer = _Npy(numbers, names)
        yield writer
        writer.finish()
        for file in (numbers, names):
            file.flush()
            flush(file.fileno())


@contextmanager
def _parquet(path: Path) -> Iterator[Writer]:
    arrow, parquet = _pyarrow()

    class Parquet:
        file: Any = None

        def add(self, embeddings: np.ndarray, columns: Columns) -> None:
            flat = arrow.array(np.ascontiguousarray(embeddings, np.float32).ravel())
            arrays = {name: arrow.array([_text(value) for value in values]) for name, values in columns.items()}
            arrays["embedding"] = arrow.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
            table = arrow.table(arrays)
            self.file = self.file or parquet.ParquetWriter(path, table.schema)
            self.file.write_table(table)

    writer = Parquet()
    try:
        yield writer
    finally:
        if writer.file is not None:
            writer.file.close()
    with path.open("rb") as written:
        flush(written.fileno())


def _text(value: str | int) -> str | int:
    r"""Names of files may hold bytes that are no text; Parquet holds text alone: they are written as \xe9."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("--out=....parquet needs pyarrow: pip install pyarrow; or write a file .npy") from error
    return pyarrow, parquet
