"""Barriers of a save that failed; what several processes do is distributed_test's."""

import contextlib
import threading

import orbax.checkpoint as ocp
import pytest

from care_jax.devices import together


def test_a_process_alone_agrees_with_itself():
    together.meet("now")
    assert together.lowest(3) == 3
    assert together.of_the_first([1, 2]) == [1, 2]


@pytest.mark.parametrize("in_background", [True, False])
@pytest.mark.parametrize("failed", [True, False])
def test_a_save_that_failed_waits_for_no_one_in_the_background(monkeypatch, failed, in_background):
    """The others wait for it elsewhere, for 20 minutes; the main thread is its caller's, whatever that raises."""
    met = []
    monkeypatch.setattr(ocp.multihost, "get_barrier_sync_fn", lambda: lambda **where: met.append(where))
    barrier = together.make_barrier()

    def finalize():
        try:
            if failed:
                raise OSError("full")
        finally:
            barrier(key="done", timeout_ms=1)

    def run():
        with contextlib.suppress(OSError):
            finalize()

    if in_background:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    assert met == ([] if failed and in_background else [{"key": "done", "timeout_ms": 1}])
