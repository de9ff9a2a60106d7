"""Numbers of a run: one JSON object a line in `metrics.jsonl`, and the same to its loggers."""

import contextlib
import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from absl import logging

from care_jax import storage
from care_jax.loggers import Loggers


class MetricWriter:
    """Appends rows of numbers to a run's files.

    Args:
      workdir: folder of the run; gets `metrics.jsonl`.
      start_step: rows of later steps are dropped: the steps are about to be made again.
      enabled: False for the processes of a run that leave writing to the first.
      warn: told of a damaged file.
      loggers: told of every row too; None for none. They stay open.

    Raises:
      OSError: `metrics.jsonl` can't be written or read.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        start_step: int = 0,
        enabled: bool = True,
        warn: Callable[[str], None] = logging.warning,
        loggers: Loggers | None = None,
    ):
        self._enabled = enabled
        if not enabled:
            return
        self._path = Path(workdir) / "metrics.jsonl"
        rows, damage = _parse(self._path)
        if damage:
            aside = storage.set_aside(self._path)
            warn(f"{self._path}: {damage}; its {len(rows)} readable rows are kept, the damaged one is {aside.name} now")
        rows = [row for row in rows if row["step"] <= start_step]
        storage.replace_file(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = self._path.open("a", encoding="utf-8")
        self._failed = False
        self._loggers = loggers or Loggers()
        self._loggers.begin(start_step)

    def write(self, step: int, numbers: Mapping[str, float], group: str = "train") -> None:
        """Adds one row, in the hands of the system when this returns; `sync` hands it to the disk.

        Args:
          step: number of updates made.
          numbers: finite values by name.
          group: what they are to the loggers: "train", or "evaluate" of the monitors'.

        Raises:
          OSError: `metrics.jsonl` can't be written. A logger that fails is given up with a line instead.
        """
        if not self._enabled:
            return
        with self._writing():
            self._file.write(json.dumps({"step": step, **numbers}) + "\n")
            self._file.flush()
        self._loggers.write(step, numbers, group)

    def sync(self) -> None:
        """Makes the rows outlast a power cut; once a save, because it waits for the disk.

        Raises:
          OSError: they can't be written, or their file is not in its place any more.
        """
        if not self._enabled:
            return
        with self._writing():
            storage.flush(self._file.fileno())
            if not storage.is_same_file(self._file.fileno(), self._path):
                raise FileNotFoundError(errno.ENOENT, "it was removed or replaced while the run wrote to it")

    @contextlib.contextmanager
    def _writing(self) -> Any:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Flushes and closes the file.

        Raises:
          OSError: what was not yet written to `metrics.jsonl` can't be; not again where `write` has said so.
        """
        if not self._enabled:
            return
        try:
            with self._writing():
                self._file.close()
        except OSError:
            if not self._failed:
                raise

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(workdir: Path, *, warn: Callable[[str], None] = lambda text: None) -> list[dict[str, float]]:
    """The readable rows of `workdir/metrics.jsonl`, oldest first.

    Args:
      workdir: folder of the run.
      warn: told of rows that can't be read.

    Raises:
      OSError: the file system refuses to read it.
    """
    path = Path(workdir) / "metrics.jsonl"
    rows, damage = _parse(path)
    if damage:
        warn(f"{path}: {damage}")
    return rows


def _parse(path: Path) -> tuple[list[dict[str, float]], str]:
    """The readable rows, and what is wrong with the others; a last line cut short by a kill is nothing wrong."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], ""
    except IsADirectoryError:
        return [], "it is a folder"
    rows, damaged = [], []
    for number, line in enumerate(lines, 1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            damaged.append(number)
    if not damaged:
        return rows, ""
    return rows, f"{len(damaged)} of its lines can't be read, the first is line {damaged[0]}"


def _row(line: bytes) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # bytes that are no text are a ValueError too
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return row if all(type(value) in (int, float) for value in row.values()) else None
