"""Numbers of a run: one JSON object a line in `metrics.jsonl`, and the same to TensorBoard."""

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from absl import logging

from care_jax import storage

_torch = sys.modules.get("torch")
sys.modules["torch"] = None  # type: ignore[assignment]
try:  # tensorboardX imports torch where it is installed, for a type in an annotation: seconds of each start
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar
finally:
    del sys.modules["torch"]
    if _torch:
        sys.modules["torch"] = _torch


class MetricWriter:
    """Appends rows of numbers to a run's files.

    Args:
      workdir: folder of the run; gets `metrics.jsonl` and `tensorboard/`.
      start_step: rows of later steps are dropped: the steps are about to be made again.
      enabled: False for the processes of a run that leave writing to the first.
      warn: told of a damaged file, and of a TensorBoard file that can't be written.

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
        self._board = _Board(Path(workdir) / "tensorboard", start_step + 1, warn)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Adds one row, in the hands of the system when this returns; `sync` hands it to the disk.

        Args:
          step: number of updates made.
          numbers: finite values by name.

        Raises:
          OSError: `metrics.jsonl` can't be written. TensorBoard is given up with a line instead.
        """
        if not self._enabled:
            return
        with self._writing():
            self._file.write(json.dumps({"step": step, **numbers}) + "\n")
            self._file.flush()
        self._board.write(step, numbers)

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
        """Flushes and closes both files.

        Raises:
          OSError: what was not yet written to `metrics.jsonl` can't be; not again where `write` has said so.
        """
        if not self._enabled:
            return
        self._board.close()
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


class _Board:
    """TensorBoard's file, written by whoever calls.

    The library would have a thread for it, which a full disk ends; the next row, and the end, then wait for ever.
    """

    def __init__(self, folder: Path, first_step: int, warn: Callable[[str], None]):
        self._folder = folder
        self._warn = warn
        self._file: EventsWriter | None = None
        with self._giving_up():
            folder.mkdir(exist_ok=True)
            # Its own name has the second: a run that is started again within one would write over it.
            suffix = f".{os.getpid()}.{time.time_ns()}"
            self._file = EventsWriter(str(folder.absolute() / "events"), suffix)
            self._add(Event(step=first_step, file_version="brain.Event:2"))
            # TensorBoard then hides what a killed run left of later steps.
            self._add(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))
            self._file.flush()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._file is not None:
            with self._giving_up():
                for name, value in numbers.items():
                    self._add(Event(step=step, summary=scalar(name, value)))
                self._file.flush()

    def _add(self, event: Event) -> None:
        assert self._file is not None
        event.wall_time = time.time()
        self._file.write_event(event)

    @contextlib.contextmanager
    def _giving_up(self) -> Any:
        try:
            yield
        except OSError as error:
            self._warn(
                f"{self._folder} can't be written ({error.strerror}): TensorBoard gets no more rows of this run, "
                "metrics.jsonl has them all"
            )
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):  # it tries once more to write what it could not
                    file.close()

    def close(self) -> None:
        if self._file is not None:
            with self._giving_up():
                self._file.close()


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
