"""The model of the step's time: a hand count, and its limits."""

import pytest

from benchmarks.scaling import Pieces, step_seconds

PIECES = Pieces(
    batch_size=1024,
    images_per_second=100.0,
    parameter_bytes=1e8,
    num_all_reduces=10,
    embedding_size=64,
    bandwidth=1e9,
    latency=1e-3,
    operations_per_second=1e12,
    input_per_second=0.0,
)


def test_a_hand_count():
    parts = step_seconds(PIECES, 8)
    assert parts["compute"] == pytest.approx(1.28)
    assert parts["loss"] == pytest.approx(6 * 2048**2 * 64 / 8 / 1e12)
    assert parts["parameters"] == pytest.approx(2 * 0.1 * 7 / 8)
    assert parts["embeddings"] == pytest.approx(4 * 1024 * 64 * 4 * 7 / 8 / 1e9)
    assert parts["latency"] == pytest.approx(0.03)
    assert parts["step"] == pytest.approx(sum(parts[name] for name in parts if name not in ("step", "input")))


def test_input_bounds_the_step():
    parts = step_seconds(PIECES._replace(input_per_second=10.0), 8)
    assert parts["step"] == parts["input"] == pytest.approx(12.8)
