"""The loop around the step: feed it, log, evaluate, save, and stop in good order."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

from care_jax import stops
from care_jax.devices import to_the_first
from care_jax.devices.distributed import is_first
from care_jax.train.checkpoint import Checkpoints
from care_jax.train.meter import Meter
from care_jax.train.metric_writer import MetricWriter
from care_jax.train.placements import Batch
from care_jax.train.state import TrainState
from care_jax.train.step import TrainStep
from care_jax.train.timetable import Timetable

Monitor = Callable[[int, Mapping[str, Any]], dict[str, float]]


class Outcome(NamedTuple):
    """How a run of the loop ended.

    Attributes:
      state: after the last update made.
      stopped_by: the signal that ended it early (what was done is saved); empty where all steps are made.
      seconds: spent until the last save, over all resumed parts, compilation included.
      info: JSON values that the last checkpoint has beside the state.
    """

    state: TrainState
    stopped_by: str
    seconds: float
    info: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether all steps are made."""
        return not self.stopped_by


class _Progress:
    """A bar on a terminal, a line a row elsewhere (a log file has no use for carriage returns)."""

    def __init__(self, num_steps: int, start_step: int, noun: str):
        self._num_steps = num_steps
        self._noun = noun
        self._start_step = start_step
        self._began = time.perf_counter()
        self._silent = not is_first()
        self._bar = tqdm(
            total=num_steps, initial=start_step, unit="step", dynamic_ncols=True, disable=self._silent or None
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in the block is no measure of what is left."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def show(self, step: int, numbers: Mapping[str, float], waiting: str = "") -> None:
        """A row; `waiting` is the process whose share of waiting it has, where there are several."""
        if self._silent:
            return
        hidden = ("learning_rate", "gradient_norm", "images_per_second", "data_wait_share")
        terms = {name: f"{value:.4g}" for name, value in numbers.items() if name not in hidden}
        speed = f"{numbers['images_per_second']:.0f} {self._noun}/s, waiting {numbers['data_wait_share']:.0%}{waiting}"
        described = ", ".join(f"{name} {value}" for name, value in terms.items())
        if not self._bar.disable:
            self._bar.set_postfix_str(f"{described}, {speed}", refresh=False)
            self._bar.update(step - self._bar.n)
            return
        done = max(step - self._start_step, 1)
        left = (time.perf_counter() - self._began) / done * (self._num_steps - step)
        row = f"step {step}/{self._num_steps}: {described}, {speed}, {left:.0f} s left\n"
        print(row, end="", file=sys.stderr, flush=True)  # in one piece, as command_line.say

    def note(self, text: str) -> None:
        if self._silent:
            return
        if self._bar.disable:
            print(f"{text}\n", end="", file=sys.stderr, flush=True)
        else:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


def agreed_stop() -> Callable[[], str]:
    """What tells the loop to stop: a function to ask before each call of the step, which signal asks for it.

    Alone, a process that has made no step yet ends at once. Several all answer at the same call, whichever of them was
    told, from now until training ends.
    """
    if jax.process_count() == 1:
        stops.at_once()
        return stops.noted
    # JAX begins to agree when a process gets SIGTERM, which JAX has taken: the others are turned into that.
    stops.note(tell=lambda: os.kill(os.getpid(), signal.SIGTERM))
    calls = itertools.count()

    def stop() -> str:
        if not multihost_utils.reached_preemption_sync_point(next(calls)):
            return ""
        return stops.noted() or "a signal to one of the processes"

    return stop


def run(
    state: TrainState,
    step_fn: TrainStep,
    batches: Iterator[Batch],
    *,
    timetable: Timetable,
    checkpoints: Checkpoints,
    writer: MetricWriter,
    monitor: Monitor,
    info: Mapping[str, Any],
    seconds_before: float = 0.0,
    prepare: Callable[[TrainState, Batch], None] = lambda state, batch: None,
    stop: Callable[[], str] = lambda: "",
    saved: Callable[[], None] = lambda: None,
    noun: str = "images",
) -> Outcome:
    """Trains from the state's step to the last one.

    The device is never waited for but where something is due: metrics of an interval are fetched when its last step
    is done, by a thread, and at most one more interval has been dispatched by then.

    Args:
      state: where to start; its buffers are given up to the step.
      step_fn: `step.repeat` of a step, jitted, with the state donated.
      batches: of the state's step and those after it, stacked as `timetable.counts` says.
      timetable: when things are due.
      checkpoints: where to save.
      writer: where to log.
      monitor: (step, variables) -> numbers by name, or raises `stops.Interrupted`.
      info: JSON values saved with each checkpoint; `seconds` is added.
      seconds_before: spent by earlier parts of this run.
      prepare: (state, batch), before the first call of the step with as many steps: compiles it, in no row's time.
      stop: asked before each call of the step: the name of what asks to stop, empty for nothing.
      saved: called after each save, by all processes.
      noun: what is trained on, as people are told.

    Raises:
      NonFiniteLossError: names the term and the step; what was saved before stays.
    """
    began = time.perf_counter()
    step = int(state.step)
    bar = _Progress(timetable.num_steps, step, noun)

    waiting = ""

    def longest(share: float) -> float:
        """Of all processes: all are as slow as the one whose data are late, and that one may not be the first."""
        nonlocal waiting
        shares = to_the_first.told("its share of waiting for data", share)
        slowest = max(range(len(shares)), key=shares.__getitem__)
        waiting = f" (process {slowest})" if len(shares) > 1 else ""
        return float(shares[slowest])

    def write(step: int, numbers: dict[str, float]) -> None:
        writer.write(step, numbers)
        bar.show(step, numbers, waiting)

    meter = Meter(timetable.batch_size, write, longest)
    prepared: set[int] = set()
    seconds = seconds_before
    stopped_by = ""

    def save(metrics: dict[str, float] | None) -> None:
        nonlocal seconds
        seconds = seconds_before + time.perf_counter() - began
        writer.sync()
        checkpoints.save(state, info={**info, "seconds": seconds}, metrics=metrics)
        saved()

    try:
        for count in timetable.counts(step):
            stopped_by = stop()
            if stopped_by:
                meter.row()
                meter.wait()
                save(None)
                break
            asked = time.perf_counter()
            batch = next(batches)
            meter.waiting(time.perf_counter() - asked)
            if count not in prepared:
                with meter.paused(), bar.paused():
                    prepare(state, batch)
                prepared.add(count)
            state, metrics = step_fn(state, batch)
            stops.note()  # there is something to save now
            step += count
            meter.add(step, metrics)
            evaluating = timetable.due(timetable.evaluate_every, step)
            saving = timetable.due(timetable.checkpoint_every, step)
            if timetable.due(timetable.log_every, step, count) or evaluating or saving:
                meter.row()
            if evaluating or saving:
                meter.wait()  # nothing is saved, or evaluated, before its loss is known to be finite
                numbers: dict[str, float] = {}
                try:
                    if evaluating:
                        numbers = monitor(step, state.variables)
                except stops.Interrupted:
                    bar.note(f"step {step}: the evaluation was left off")
                if numbers:
                    writer.write(step, numbers, "evaluate")
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
                    bar.note(f"step {step}: {shown}")
                if saving:
                    save(numbers or None)
                meter.restart_clock()
    finally:
        meter.close()
        checkpoints.wait()  # also after an error: what is being written was good
        bar.close()
    return Outcome(
        state=state,
        stopped_by=stopped_by,
        seconds=seconds,
        info=info,
    )
