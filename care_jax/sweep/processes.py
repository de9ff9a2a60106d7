"""Several runs of a table at a time, each a process with its share of the cores, or of the GPUs."""

import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from care_jax import stops
from care_jax.command_line import UsageError, say
from care_jax.sweep.runs import Run
from care_jax.workdir import plain, writing

_POLL = 0.2  # seconds
_DEVICES = Path("/dev")
_GPU = re.compile(r"[0-9]+|(GPU|MIG)-\S+")  # a number or a name, of CUDA_VISIBLE_DEVICES; -1 is none
_SAVED = "every run is saved where it was, those that are finished stay; the same command goes on"


class Share(NamedTuple):
    """What one of several runs has: processors by their numbers, and GPUs by their names; none: whatever there is."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] = ()


ALL = Share(())


class Ended(NamedTuple):
    """A run whose process has ended.

    Attributes:
      run: which.
      problem: why it is not finished, in its own words; empty where it is.
      seconds: that its process took.
    """

    run: Run
    problem: str
    seconds: float


def shares(jobs: int) -> list[Share]:
    """The cores and GPUs that this process may use, in equal parts: times compare, and a batch is cut alike.

    What is over is left alone, and said.

    Raises:
      UsageError: more jobs than there are of them; or the system can't share out cores, or has TPUs.
    """
    if not hasattr(os, "sched_getaffinity") or list(_DEVICES.glob("accel*")):
        raise UsageError(f"--jobs={jobs}: cores and GPUs are shared out on Linux alone, TPUs are not; leave it out")
    cores, gpus = sorted(os.sched_getaffinity(0)), _gpus()
    for name, there in (("cores", cores), ("GPUs", gpus)):
        if there and jobs > len(there):
            on_cores = ", or set JAX_PLATFORMS=cpu to run on the cores alone" if name == "GPUs" else ""
            raise UsageError(
                f"--jobs={jobs} is more than the {len(there)} {name}; give --jobs={len(there)} at most{on_cores}"
            )
    for name, there in (("cores", cores), ("GPUs", gpus)):
        if over := len(there) % jobs:
            say(f"--jobs={jobs} leaves {over} of the {len(there)} {name} idle, so that all runs have equally many")
            del there[-over:]
    return [Share(tuple(cores[part::jobs]), tuple(gpus[part::jobs])) for part in range(jobs)]


def _gpus() -> list[str]:
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return list(takewhile(_GPU.fullmatch, names))  # CUDA, too, takes none from the first on that is no GPU's
    found = [path for path in _DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    # CUDA numbers those that are here from 0 on: in a container the names of the files may be the host's.
    return [str(number) for number in range(len(found))]


def make(
    runs: Sequence[Run], shares: Sequence[Share], watch: Callable[[Sequence[Run]], None] = lambda runs: None
) -> Generator[Ended, None, None]:
    """Makes runs, as many at a time as there are shares; what they say goes to `log.txt` in their folders.

    Where a signal asks to stop, or the generator is closed, those that are going on are stopped, and saved.

    Args:
      runs: in this order.
      shares: one a run at a time.
      watch: called several times a second with the runs that are going on.

    Yields:
      Each run when it has ended.
    """
    waiting, free = deque(runs), deque(shares)
    going: dict[Share, _Going] = {}
    stops.note()
    try:
        while waiting or going:
            while waiting and free:
                share = free.popleft()
                going[share] = _Going(waiting.popleft(), share)
            time.sleep(_POLL)
            if stops.noted():
                break
            for share, one in list(going.items()):
                if one.process.poll() is None:
                    continue
                free.append(share)
                del going[share]
                yield one.ended()
            watch([one.run for one in going.values()])
    finally:
        for one in going.values():
            one.process.terminate()  # which saves
        for one in going.values():
            one.process.wait()
        stops.at_once(_SAVED)  # ends the program where a signal was noted


class _Going:
    """A run that is going on."""

    def __init__(self, run: Run, share: Share):
        self.run = run
        self._began = time.monotonic()
        with writing(run.workdir):
            run.workdir.mkdir(parents=True, exist_ok=True)
            with (run.workdir / "log.txt").open("a") as log:
                self._from = log.tell()
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "care_jax.sweep.one_run", str(run.workdir), ",".join(map(str, share.cores))],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    text=True,
                    env={**os.environ, **({"CUDA_VISIBLE_DEVICES": ",".join(share.gpus)} if share.gpus else {})},
                )
        assert self.process.stdin
        with suppress(BrokenPipeError), self.process.stdin as pipe:  # it ended at once, which `check` tells
            pipe.write(json.dumps(plain(run.config)))
        say(f"{run.workdir}: begun, its lines are in log.txt there")

    def ended(self) -> Ended:
        """How it went, now that its process has ended."""
        seconds, status = time.monotonic() - self._began, self.process.returncode
        if not status and (self.run.workdir / "summary.json").exists():
            return Ended(self.run, "", seconds)
        with (self.run.workdir / "log.txt").open(errors="replace") as log:
            log.seek(self._from)
            said = log.read().splitlines()
        own = [line.removeprefix("care_jax: ") for line in said if line.startswith("care_jax: ")]
        problem = own[-1] if own and status in (0, 2) else f"status {status}, see log.txt there"
        return Ended(self.run, problem, seconds)
