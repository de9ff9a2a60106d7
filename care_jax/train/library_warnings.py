"""What the libraries that write checkpoints warn of, said as a line of ours: otherwise it is silenced, or a dump."""

import logging
import re
import sys
import traceback
import warnings
from typing import Any

from absl import logging as absl_logging

_LIBRARIES = re.compile(r"[/\\](orbax|tensorstore|etils)[/\\]")
_LOOPS = re.compile(r"[/\\]asyncio[/\\]")  # of theirs: no one else has any
# Of every run that is as it should be: a checkpoint without an evaluation, a save longer than what lies between two, a
# file that a checkpoint can do without (one that was damaged is told elsewhere).
_MEANT = re.compile(r"Requested `tracked_metric`|Waiting for previous save|Metadata file does not exist")


class LibraryWarnings(logging.Filter):
    """Hears what these libraries warn of between `start` and `stop`, in any thread.

    It hears the records of absl's logger whatever the level of those that are printed, Python's warnings, and the
    errors that no one catches in what a failed save leaves behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listening = False
        self._heard: dict[str, None] = {}

    def start(self) -> None:
        """Listens, if it does not already."""
        if self._listening:
            return
        self._listening = True
        logger = absl_logging.get_absl_logger()
        self._level, self._printed = logger.level, logger.getEffectiveLevel()
        logger.setLevel(min(self._printed, logging.WARNING))
        logger.addFilter(self)
        self._show: Any = warnings.showwarning
        warnings.showwarning = self._show_warning  # type: ignore[assignment]
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._hear_unraisable

    def stop(self) -> list[str]:
        """What was heard, each once and one line; everything is as it was before `start`."""
        heard, self._heard = list(self._heard), {}
        if not self._listening:
            return heard
        self._listening = False
        logger = absl_logging.get_absl_logger()
        logger.removeFilter(self)
        logger.setLevel(self._level)
        warnings.showwarning = self._show
        sys.unraisablehook = self._hook
        return heard

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is printed as it is."""
        if record.levelno >= logging.WARNING and _LIBRARIES.search(record.pathname):
            self._hear(record.getMessage())
            return False
        return record.levelno >= self._printed

    def _show_warning(self, message: Any, category: Any, filename: str, *rest: Any) -> None:
        if _LIBRARIES.search(filename):
            self._hear(str(message))
        else:
            self._show(message, category, filename, *rest)

    def _hear_unraisable(self, event: Any) -> None:
        files = [frame.filename for frame in traceback.extract_tb(event.exc_traceback)]
        if any(_LIBRARIES.search(file) or _LOOPS.search(file) for file in files):
            self._hear(f"{event.exc_type.__name__}: {event.exc_value}")
        else:
            self._hook(event)

    def _hear(self, text: str) -> None:
        line = re.sub(r"^(\[\w+=[^]]*\])+\s*", "", text.strip().partition("\n")[0])
        if not _MEANT.search(line):
            self._heard[line[:300]] = None
