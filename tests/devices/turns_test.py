"""Who comes first, who waits for whom, and who need not; threads stand for processes."""

import threading
import time

from care_jax.devices import agreement, turns
from tests.devices.agreement_test import together  # noqa: F401  # a fixture


def test_alone_it_is_done(monkeypatch):
    monkeypatch.setattr(agreement, "_client", None)
    done = []
    turns.in_turn("prepare", lambda: done.append(1))
    assert done == [1]


def test_the_first_then_one_after_the_other_on_each_host(together, monkeypatch):  # noqa: F811
    this, lock = threading.local(), threading.Lock()
    monkeypatch.setattr(turns.socket, "gethostname", lambda: "ab"[this.index % 2])
    now: set[int] = set()
    began: list[int] = []
    at_once: list[set[int]] = []

    def do():
        with lock:
            began.append(this.index)
            now.add(this.index)
            at_once.append(set(now))
        time.sleep(0.05)
        with lock:
            now.remove(this.index)

    def call(index):
        this.index = index
        turns.in_turn("prepare", do)

    assert together(6, call) == [""] * 6
    assert sorted(began) == list(range(6)) and at_once[0] == {0}
    assert all(len({i % 2 for i in some}) == len(some) for some in at_once)  # never two of one host
    assert any(len(some) == 2 for some in at_once)  # and hosts do not wait for each other
