"""All loggers of a run: one that fails is given up with a line, and the run goes on."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from care_jax.loggers.base import Final, Logger, LoggerError, Start, check_installed, tags


class Loggers:
    """Tells each of several.

    Args:
      loggers: that have begun.
      warn: told of one that fails, once.
    """

    def __init__(self, loggers: Sequence[Logger] = (), warn: Callable[[str], None] = lambda text: None):
        self._loggers = list(loggers)
        self._warn = warn

    def begin(self, step: int) -> None:
        """The rows that follow are of the updates after `step`."""
        self._each(lambda logger: logger.begin(step))

    def write(self, step: int, numbers: Mapping[str, float], group: str) -> None:
        """A row of a group: "train", "evaluate"."""
        self._each(lambda logger: logger.write(step, tags(numbers, group)))

    def finish(self, final: Final) -> None:
        """What is known at the end."""
        self._each(lambda logger: logger.finish(final))

    def close(self, *, failed: bool = False) -> None:
        """Nothing follows."""
        self._each(lambda logger: logger.close(failed=failed))
        self._loggers.clear()

    def __bool__(self) -> bool:
        """Whether there is one to tell."""
        return bool(self._loggers)

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for logger in list(self._loggers):
            try:
                tell(logger)
            except Exception as error:  # theirs can be anything; what only shows numbers must not end what makes them
                self._loggers.remove(logger)
                reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
                said = " ".join(str(reason).split())
                self._warn(f"{logger.title} gets no more rows of this run ({said}); metrics.jsonl has them all")


@contextmanager
def opened(
    names: Sequence[str],
    workdir: Path,
    settings: Mapping[str, Any],
    *,
    say: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[Loggers]:
    """Loggers for the block.

    Args:
      names: of LOGGERS.
      workdir: folder of the run.
      settings: of the run, by their dotted names.
      say: told where to look.
      warn: told of a logger that fails later.

    Raises:
      LoggerError: one is not installed, or can't begin. What writes files in the workdir alone never raises: it fails
        as later.
    """
    check_installed(names)
    started: list[Logger] = []
    try:
        for name in names:
            start: Start = importlib.import_module(f"care_jax.loggers.{name}").start
            try:
                started.append(start(workdir, settings, say))
            except LoggerError:
                raise
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise LoggerError(f"config.train.loggers: {name} can't begin ({said})") from error
    except BaseException:
        Loggers(started, warn).close(failed=True)
        raise
    loggers = Loggers(started, warn)
    try:
        yield loggers
    except BaseException:
        loggers.close(failed=True)
        raise
    loggers.close()
