"""TensorBoard's files: grouped curves, the settings for its table of runs, the pictures and the final numbers."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from care_jax import extras
from care_jax.loggers.base import Final, tags

with extras.hidden("torch"):  # for a type in an annotation: seconds of each start
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import hparams, scalar

_RGBA = 4


def start(workdir: Path, settings: Mapping[str, Any], say: Callable[[str], None]) -> "TensorBoard":
    """Into `workdir/tensorboard`."""
    del say
    return TensorBoard(Path(workdir) / "tensorboard", settings)


class TensorBoard:
    """Files written by whoever calls.

    The library would have a thread for it, which a full disk ends; the next row, and the end, then wait for ever.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        self.title = f"TensorBoard's file in {folder}"
        self._folder = folder
        self._settings = {name: _plain(value) for name, value in settings.items()}
        self._file: EventsWriter | None = None

    def begin(self, step: int) -> None:
        """A file of its own, which hides what a killed run left of later steps."""
        self._folder.mkdir(exist_ok=True)
        # Its own name has the second: a run that is started again within one would write over it.
        suffix = f".{os.getpid()}.{time.time_ns()}"
        self._file = EventsWriter(str(self._folder.absolute() / "events"), suffix)
        self._add(Event(step=step + 1, file_version="brain.Event:2"))
        self._add(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
        # Of the experiment's own tag TensorBoard takes one run's for all: without any it looks at every run.
        _, session, _ = hparams(self._settings, {})
        self._add(Event(step=step + 1, summary=session))
        self._file.flush()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """A curve a tag."""
        for tag, value in numbers.items():
            self._add(Event(step=step, summary=scalar(tag, value)))
        self._flush()

    def finish(self, final: Final) -> None:
        """Final numbers beside the curves, pictures, and the end of the session in the table of runs."""
        self.write(final.step, tags(final.numbers, "final"))
        for name, png in final.pictures.items():
            width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
            image = Summary.Image(height=height, width=width, colorspace=_RGBA, encoded_image_string=png)
            value = Summary.Value(tag=f"report/{name}", image=image)
            self._add(Event(step=final.step, summary=Summary(value=[value])))
        _, _, ended = hparams(self._settings, {})
        self._add(Event(step=final.step, summary=ended))
        self._flush()

    def close(self, *, failed: bool) -> None:
        """Closes the file."""
        del failed
        file, self._file = self._file, None
        if file is not None:
            try:
                file.flush()
            finally:
                with contextlib.suppress(OSError):  # it tries once more to write what it could not
                    file.close()

    def _flush(self) -> None:
        assert self._file is not None
        self._file.flush()

    def _add(self, event: Event) -> None:
        assert self._file is not None, "begin comes first"
        event.wall_time = time.time()
        self._file.write_event(event)


def _plain(value: Any) -> bool | float | str:
    """As the table of runs can have it."""
    return value if isinstance(value, bool | int | float | str) else str(value)
