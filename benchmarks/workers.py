"""Each side of a comparison in a process of its own: neither holds the other's memory nor its threads.

A worker is told what to do by lines on its standard input and answers each with a line of JSON: "import" has been done
by the time it first listens, "prepare" builds the case, and then any method of it, by name.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.settings import Case


class WorkerFailed(Exception):
    """What a worker died of, in a line."""


class Worker:
    """A process that holds one case.

    Args:
      case: what it is to build. Its imports begin at once, everything else when it is asked for.
      deadline: on the clock of `time.monotonic`, seconds; a worker that has not answered by then is ended.
    """

    def __init__(self, case: Case, deadline: float):
        self.case = case
        self._deadline = deadline
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # `close` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", json.dumps(case._asdict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def ask(self, command: str) -> Any:
        """The answer to a command.

        Raises:
          WorkerFailed: the process ended, or ran out of time.
        """
        timer = threading.Timer(max(self._deadline - time.monotonic(), 0.1), self._process.kill)
        timer.start()
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if answer:
            return json.loads(answer)
        self._process.wait()
        if time.monotonic() >= self._deadline:
            raise WorkerFailed("out of time")
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip() and not line.startswith(" ")]
        raise WorkerFailed(lines[-1][:300] if lines else f"ended with status {self._process.returncode}")

    def close(self) -> None:
        """Ends the process, and gives back what it held."""
        try:
            # The end of its input ends it, and with it the DataLoader workers that it started.
            self._process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, ValueError, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


def _maker(kind: str) -> Callable[[Case], object]:
    """Imports what the kind needs, and no more: our process has no torch in it, the peers' none of JAX."""
    if kind == "ceilings":
        from benchmarks.ceilings import Ceilings

        return Ceilings
    if kind == "ours":
        # Of the device's memory, instead of three quarters: nobody else is on it.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
        from benchmarks.ours import Ours

        return Ours
    from benchmarks.torch_peer import Official, Tuned

    return Official if kind == "official" else Tuned


def serve(case: Case) -> None:
    """Answers commands until the standard input ends."""
    # The answers get a channel that nobody else prints to.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    make = _maker(case.kind)
    made: Any = None
    for line in sys.stdin:
        command = line.strip()
        if command == "prepare":
            made, answer = make(case), None
        else:
            answer = getattr(made, command)
            answer = answer() if callable(answer) else answer
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    serve(Case(**json.loads(sys.argv[1])))
