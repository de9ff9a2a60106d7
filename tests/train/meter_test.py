"""Rows of metrics: when they are written, and the speed that they tell, on a device whose pace is known."""

import threading
import time

import numpy as np
import pytest

from care_jax.train.meter import Meter, NonFiniteLossError


class Device:
    """Makes one step after the other, `seconds` each, whenever they are handed to it."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._free_at = 0.0

    def step(self, loss: float = 1.0) -> dict[str, "_Metric"]:
        self._free_at = max(self._free_at, time.perf_counter()) + self._seconds
        return {"loss": _Metric(self._free_at, loss)}


class _Metric:
    def __init__(self, ready_at: float, value: float):
        self._ready_at = ready_at
        self._value = value
        self.fetched_by: list[str] = []

    def block_until_ready(self):
        time.sleep(max(self._ready_at - time.perf_counter(), 0.0))
        return self

    def __array__(self, dtype=None, copy=None):
        self.block_until_ready()
        self.fetched_by.append(threading.current_thread().name)
        return np.full(1, self._value, np.float32)


def test_a_row_is_written_when_its_last_step_is_done_with_the_speed_of_its_own_steps():
    """The loop is done with handing steps out long before: it never waits for the device, but for the row before."""
    written = []
    meter = Meter(10, lambda step, numbers: written.append((step, numbers, time.perf_counter())))
    fast, slow = Device(0.01), Device(0.05)
    began = time.perf_counter()
    metrics = [fast.step() for _ in range(5)]
    for step, metric in enumerate(metrics, 1):
        meter.add(step, metric)
    meter.row()
    assert time.perf_counter() - began < 0.04 and not written
    meter.wait()
    for step in range(6, 11):
        meter.add(step, slow.step())
    meter.row()
    meter.wait()
    meter.close()
    assert [step for step, _, _ in written] == [5, 10]
    np.testing.assert_allclose([row["images_per_second"] for _, row, _ in written], [1000, 200], rtol=0.3)
    assert abs(written[0][2] - began - 0.05) < 0.03
    assert {name for metric in metrics for name in metric["loss"].fetched_by} == {"meter"}


def test_what_a_pause_takes_is_in_no_row():
    """Nor is what the device still does when the pause begins taken for a part of it."""
    written = []
    meter = Meter(10, lambda step, numbers: written.append(numbers))
    device = Device(0.02)
    meter.add(1, device.step())
    with meter.paused():
        time.sleep(0.2)
    meter.waiting(0.01)
    meter.add(2, device.step())
    meter.row()
    meter.wait()
    time.sleep(0.2)
    meter.restart_clock()
    meter.add(3, device.step())
    meter.row()
    meter.wait()
    meter.close()
    np.testing.assert_allclose([row["images_per_second"] for row in written], 500, rtol=0.3)
    np.testing.assert_allclose([row["data_wait_share"] for row in written], [0.25, 0.0], rtol=0.3)


def test_a_row_has_the_waiting_that_all_processes_agree_on():
    """Asked once a row, by the thread: the loop waits for no other process."""
    written, asked = [], []

    def longest(share):
        asked.append((share, threading.current_thread().name))
        return 0.75

    meter = Meter(10, lambda step, numbers: written.append(numbers), longest)
    for step in (1, 2):
        meter.add(step, Device(0.0).step())
        meter.row()
    meter.wait()
    meter.close()
    assert [row["data_wait_share"] for row in written] == [0.75] * 2
    assert asked == [(0.0, "meter")] * 2


def test_what_a_row_was_not_written_for_is_raised_in_the_loop_and_ends_the_rows():
    written = []
    meter = Meter(10, lambda step, numbers: written.append(step))
    device = Device(0.0)
    meter.add(1, device.step(float("nan")))
    meter.row()
    meter.add(2, device.step())
    with pytest.raises(NonFiniteLossError, match="step 1 is not finite: loss is nan"):
        meter.row()
    with pytest.raises(NonFiniteLossError, match="step 1"):
        meter.add(3, device.step())
    meter.close()
    assert not written


def test_closed_it_writes_nothing_more():
    """After the line that says why a run ended."""
    written = []
    meter = Meter(10, lambda step, numbers: written.append(step))
    meter.add(1, Device(0.1).step())
    meter.row()
    meter.close()
    time.sleep(0.2)
    assert not written
