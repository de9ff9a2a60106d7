"""One device, eight of one process, or four of each of two: the same numbers, and a share of the work for everyone."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from care_jax.devices import sharding
from care_jax.evaluate import motion, parameters
from tests.environment import on_cpus

PROGRAM = Path(__file__).parents[1] / "small_evaluation.py"


def two_processes() -> list[dict]:
    """What each of them prints."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), coordinator, "2", str(index)],
            cwd=PROGRAM.parents[1],
            env=on_cpus(4),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    ended = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    return [json.loads(out.splitlines()[-1]) for out, _ in ended]


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_who_shares_the_work(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    from small_evaluation import evaluate

    alone, eight = (evaluate(sharding.make_mesh(jax.devices()[:count])) for count in (1, 8))
    first, second = two_processes()
    assert first == second
    # Of 203 training images in batches of 40: six batches, of which each process holds its half and no more.
    assert (alone.pop("held"), eight.pop("held"), first.pop("held")) == (240, 240, 120)
    assert first == pytest.approx(eight, rel=1e-6)
    # The forward pass of fewer images a device rounds otherwise, and maps fitted to few images amplify it.
    for name in parameters.measures(()):  # a network's training amplifies it much
        assert eight.pop(name) == pytest.approx(alone.pop(name), abs=0.05)
    fitted = [
        {name: numbers.pop(name) for name in motion.measures(()) if name in numbers} for numbers in (eight, alone)
    ]
    assert eight == pytest.approx(alone, rel=1e-5)
    assert fitted[0] == pytest.approx(fitted[1], rel=2e-4)
    assert alone["knn_top1"] > 50 and alone["linear_probe_top1_spread"] > 0
