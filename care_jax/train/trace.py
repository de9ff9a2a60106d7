"""What host and devices do in some steps, recorded by JAX's profiler: where the time of a slow step goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from care_jax.train.state import TrainState
from care_jax.train.step import Batch, Metrics, TrainStep


@contextmanager
def traced(step: TrainStep, steps: int, folder: Path, tell: Callable[[str], None]) -> Iterator[TrainStep]:
    """A step as the loop calls it, some of which are recorded: after its first call, which may have more to do.

    What can't be recorded is told, and costs no step.

    Args:
      step: as `loop.run` calls it, with several updates a call or one.
      steps: to record, rounded up to whole calls; 0 for none.
      folder: to which each recording adds a folder of its own, with the files of all processes.
      tell: told where it is, or why there is none.
    """
    if not steps:
        yield step
        return
    recorder = _Recorder(step, steps, folder, tell)
    try:
        yield recorder
    finally:
        recorder.close()


class _Recorder:
    def __init__(self, step: TrainStep, steps: int, folder: Path, tell: Callable[[str], None]):
        self._step, self._folder, self._tell = step, folder, tell
        self._steps, self._recorded = steps, 0
        self._calls = 0
        self._recording = False

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        if self._calls == 1:
            self._recording = self._try(self._start)
        state, metrics = self._step(state, batch)
        self._calls += 1
        if self._recording:
            self._recorded += len(metrics["loss"])
            if self._recorded >= self._steps:
                jax.block_until_ready(metrics)
                self.close()
        return state, metrics

    def _start(self) -> None:
        try:
            str(self._folder).encode()
        except UnicodeEncodeError as error:  # which the profiler would meet when it is to write
            raise ValueError("the profiler writes to no folder whose name is not UTF-8") from error
        self._folder.mkdir(parents=True, exist_ok=True)  # a recording that can't be written could never be ended
        jax.profiler.start_trace(self._folder)

    def close(self) -> None:
        """Writes what is being recorded, of a run that ends before too; says where there was nothing to record."""
        if self._calls == 1:
            self._tell("train.trace_steps: nothing is recorded, for this start made one call of the step, its first")
        if self._recording:
            self._recording = False
            if self._try(jax.profiler.stop_trace):
                self._tell(f"{self._folder} has {self._recorded} recorded steps: open its .trace.json.gz in Perfetto")

    def _try(self, call: Callable[[], Any]) -> bool:
        try:
            call()
        except (RuntimeError, OSError, ValueError) as error:  # of a disk, or of a profiler that is there already
            self._tell(f"train.trace_steps: nothing is recorded ({str(error).splitlines()[0]})")
            return False
        return True
