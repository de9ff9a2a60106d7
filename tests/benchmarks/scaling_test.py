"""The model of the step's time: a hand count."""

import pytest

from benchmarks.scaling import step

REPORT = {
    "devices": 8,
    "batch_size": 1024,
    "floor": {"seconds_by_operations": 0.004, "seconds_by_bytes": 0.01},
    "collectives": [
        {"kind": "all-reduce", "type": "f32", "number": 100, "bytes": 4e8},
        {"kind": "all-gather", "type": "f32", "number": 2, "bytes": 1e8},
    ],
}


def test_a_hand_count():
    row = step(REPORT, link=1e11, latency=1e-6)
    assert (row.devices, row.images, row.operations, row.memory) == (8, 128, 0.004, 0.01)
    assert row.sent == pytest.approx((2 * 4e8 + 1e8) * 7 / 8 / 1e11)
    assert row.exchanges == pytest.approx(102 * 3e-6)
    assert row.seconds == pytest.approx(0.01 + row.sent + row.exchanges)


def test_one_device_sends_nothing():
    row = step({**REPORT, "devices": 1}, link=1e11, latency=1e-6)
    assert row.sent == row.exchanges == 0
