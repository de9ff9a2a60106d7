"""Rows of metrics: each is written when its last step is done, with the speed of its own steps."""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np

from care_jax.errors import UserError

Metrics = Mapping[str, jax.Array]
Write = Callable[[int, dict[str, float]], None]


class NonFiniteLossError(UserError, RuntimeError):
    """A term of the loss, or the gradient, is not a finite number."""


class _Row(NamedTuple):
    """Steps whose metrics are still on the device: those of calls, by the step that each ends with."""

    calls: list[tuple[int, Metrics]]
    paused: float
    waited: float


class Meter:
    """Turns the metrics of steps into rows, without a wait of the loop's for the device.

    A thread waits for the last step of each row, which is then done, and counts the time since the row before was. So
    it wakes once a row, the loop goes on handing steps to the device, and what the clock shows is the device's time
    and not the moment at which the loop happened to look.

    Args:
      batch_size: images a step.
      write: (step, numbers) of each row; called by the thread.
      longest: the share of a row's time that this process waited for data -> that of the process that waited longest;
        called by the thread, once a row.
    """

    def __init__(self, batch_size: int, write: Write, longest: Callable[[float], float] = lambda share: share):
        self._batch_size = batch_size
        self._write = write
        self._longest = longest
        self._calls: list[tuple[int, Metrics]] = []
        self._waited = self._paused = 0.0
        self._rows: queue.Queue[_Row | None] = queue.Queue()
        self._failure: BaseException | None = None
        self._closed = False
        self._start = time.perf_counter()
        # No daemon: Python would end while the thread is inside JAX, which ends in a crash.
        self._thread = threading.Thread(target=self._work, name="meter")
        self._thread.start()

    def add(self, step: int, metrics: Metrics) -> None:
        """Metrics [k] of the k steps up to `step`, as a call of the step gives them.

        Raises:
          NonFiniteLossError: of an earlier row; or what else it could not be written for.
        """
        self._calls.append((step, metrics))
        self._raise()

    def waiting(self, seconds: float) -> None:
        """So long the loop waited for a batch."""
        self._waited += seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in the block (a compilation) is no row's time; the device is idle before it begins."""
        jax.block_until_ready([metrics for _, metrics in self._calls])
        began = time.perf_counter()
        yield
        self._paused += time.perf_counter() - began

    def row(self) -> None:
        """A row of the steps since the last one, to be written when they are done; waits for the row before it.

        Raises:
          NonFiniteLossError: of an earlier row; or what else it could not be written for.
        """
        self.wait()
        if self._calls:
            self._rows.put(_Row(self._calls, self._paused, self._waited))
        self._calls, self._waited, self._paused = [], 0.0, 0.0

    def wait(self) -> None:
        """Returns when all rows are written.

        Raises:
          NonFiniteLossError: names the term and the step; or what else a row could not be written for.
        """
        self._rows.join()
        self._raise()

    def restart_clock(self) -> None:
        """After something that isn't training, before which all rows were waited for."""
        self._start = time.perf_counter()

    def close(self) -> None:
        """Writes no more rows: those that were not waited for are lost, as their steps are."""
        self._closed = True
        self._rows.put(None)

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (row := self._rows.get()) is not None:
            try:
                if self._failure is None:
                    self._finish(row)
            except BaseException as error:  # the loop raises it
                self._failure = error
            finally:
                self._rows.task_done()

    def _finish(self, row: _Row) -> None:
        last, metrics = row.calls[-1]
        jax.block_until_ready(metrics)
        now = time.perf_counter()
        calls = jax.device_get([metrics for _, metrics in row.calls])
        numbers = {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}
        count = len(numbers["loss"])
        _check_finite(numbers, last)
        means = {name: float(np.mean(values)) for name, values in numbers.items()}
        elapsed = max(now - self._start - row.paused, 1e-9)
        means["images_per_second"] = count * self._batch_size / elapsed
        means["data_wait_share"] = self._longest(min(row.waited / elapsed, 1.0))
        self._start = now
        if not self._closed:
            self._write(last, means)


def _check_finite(numbers: Mapping[str, np.ndarray], last: int) -> None:
    for step in range(last - len(numbers["loss"]) + 1, last + 1):
        values = {name: float(of_steps[step - last - 1]) for name, of_steps in numbers.items()}
        bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteLossError(
                f"step {step} is not finite: {', '.join(bad)}; the last good checkpoint is kept, but from it the same "
                "command comes to the same step. In another --workdir try a smaller optimizer.learning_rate or "
                "equivariance.weight, or model.dtype=float32; model.init_from=FOLDER begins with this run's encoder"
            )
