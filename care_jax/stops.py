"""Signals that ask the program to stop: at once where nothing would be lost, else after what is being done is saved.

    stops.install()                 # a command's first line, before the imports that take time
    stops.note()                    # from here on there is something to save: a signal is noted for who asks ...
    if stops.noted(): ...           # ... and saves
    stops.at_once("all is saved")   # from here on, nothing is lost by ending

The first SIGINT, SIGHUP or SIGTERM ends the program with one line and status 0; a SIGINT after it, with one line and
status 130, whatever is being done. A thread obeys them, because Python's own handlers wait for the main thread, and
that may sit in a compilation; nothing is raised, because an exception out of nowhere may be swallowed by any library.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from care_jax.errors import printable

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
NOTHING_TO_SAVE = "no step has been made since it started, so there is nothing to save; the same command goes on"

# Seconds within which SIGINTs count as one: `timeout --signal=INT` sends two, and so may whatever started the program.
_SAME = 0.1
# Seconds that stopping may take without a word.
_PATIENCE = 1.0

_lock = threading.Lock()
_taken: list[signal.Signals] = []
_consequence: str | None = NOTHING_TO_SAVE  # of ending at once; None where a signal is only noted
_noted = ""
_noted_at = 0.0
_answered = False
_tell: Callable[[], None] | None = None
_drafts: set[str] = set()


class Interrupted(Exception):
    """What was being done was left off, because a signal asks to stop."""


def install(consequence: str = NOTHING_TO_SAVE) -> None:
    """Takes the signals; called once by a command, in the main thread. Those that are ignored (by nohup) stay so.

    Args:
      consequence: of ending at once, for the line that says so.
    """
    global _consequence
    _consequence = consequence
    if sys.stderr is None:  # closed by `2>&-`: print would take standard output for it, and the next file its number
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = _Stream(sys.stderr)  # type: ignore[assignment]
    _taken.extend(number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)
    received, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(received,), name="stops", daemon=True).start()
    _take()


def at_once(consequence: str = NOTHING_TO_SAVE) -> None:
    """From now on a signal ends the program at once; so does one that was noted before, here.

    Args:
      consequence: for the line that says so.
    """
    global _consequence
    with _lock:
        if _noted:
            _end(f"stopped by {_noted}: {consequence}", 0)
        _consequence = consequence
    _take()


def note(tell: Callable[[], None] | None = None) -> None:
    """From now on the first signal is noted for who asks `noted`.

    Args:
      tell: called when it comes, in another thread; None leaves what an earlier call gave.
    """
    global _consequence, _tell
    with _lock:
        _consequence = None
        _tell = tell or _tell


@contextmanager
def drafts(paths: Iterable[str | os.PathLike[str]]) -> Iterator[None]:
    """Removes files that are not finished, also where a signal ends the program inside the block.

    Args:
      paths: of files that exist, or not; at the end of the block those that still do are removed.
    """
    names = {os.fspath(path) for path in paths}
    _drafts.update(names)
    try:
        yield
    finally:
        _remove(names)
        _drafts.difference_update(names)


def _remove(names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.unlink(name)


def noted() -> str:
    """The name of the signal that asks to stop; empty if none does."""
    return _noted


def answered() -> None:
    """From now on nothing is said of a stop that takes long: the line that it is done comes next, and is the last."""
    global _answered
    with _lock:
        _answered = True


def check() -> None:
    """For what takes long and may be left off.

    Raises:
      Interrupted: a signal asks to stop.
    """
    if _noted:
        raise Interrupted


def _take() -> None:
    """The signals are Python's; anew, because jax.distributed takes SIGTERM for itself."""
    for number in _taken:
        signal.signal(number, lambda *_: None)  # what matters is written to the wake-up pipe before
        signal.siginterrupt(number, False)  # a library's system call goes on


def _watch(received: int) -> None:
    patience = None
    while True:
        if select.select([received], [], [], patience)[0]:
            first = _receive(os.read(received, 1)[0])
            patience = _PATIENCE if first else patience
        else:
            with _lock:
                if not _answered:
                    _say(f"{_noted}: stopping after the step at hand and a save; Ctrl-C ends at once")
            patience = None


def _receive(number: int) -> bool:
    """Obeys a signal; whether it is the first, and noted."""
    global _noted, _noted_at
    if number not in _taken:
        return False
    name = signal.Signals(number).name
    with _lock:
        if _consequence is not None:
            _end(f"stopped by {name}: {_consequence}", 0)
        if _noted:
            if number == signal.SIGINT and time.monotonic() - _noted_at > _SAME:
                _end("ended at once by SIGINT: what was saved before is kept; the same command goes on from there", 130)
            return False
        _noted, _noted_at = name, time.monotonic()
    if _tell is not None:
        _tell()
    return True


def _end(line: str, status: int) -> None:
    _remove(list(_drafts))
    _say(line)
    os._exit(status)


def _say(line: str) -> None:
    """Without the locks of sys.stderr, which the main thread may hold, and for ever where nobody reads."""
    with suppress(OSError, ValueError):
        file = sys.stderr.fileno()
        if select.select([], [file], [], _PATIENCE)[1]:
            text = f"care_jax: {printable(line)}\n"
            # A terminal's line is begun already: with ^C, or with a bar.
            os.write(file, f"\n{text}".encode() if os.isatty(file) else text.encode())


class _Stream:
    """Standard error whose loss (a closed terminal, `2>&1 | head`) loses nothing else: what can't be written is not."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
