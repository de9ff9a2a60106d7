"""What the libraries that write checkpoints warn of, said as a line of ours: otherwise it is silenced, or a dump."""

import logging
import re
import warnings
from typing import Any

from absl import logging as absl_logging

_LIBRARIES = re.compile(r"[/\\](orbax|tensorstore|etils)[/\\]")
# Of every run that is as it should be: a checkpoint without an evaluation, a save longer than what lies between two.
_MEANT = re.compile(r"Requested `tracked_metric`|Waiting for previous save")


class LibraryWarnings(logging.Filter):
    """Hears what these libraries warn of between `start` and `stop`, in any thread.

    It hears the records of absl's logger whatever the level of those that are printed, and Python's warnings.
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

    def _hear(self, text: str) -> None:
        line = re.sub(r"^(\[\w+=[^]]*\])+\s*", "", text.strip().partition("\n")[0])
        if not _MEANT.search(line):
            self._heard[line[:300]] = None
