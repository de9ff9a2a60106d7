"""What the processes of a run do together around their checkpoints; alone, a process waits for no one."""

import sys
import threading
from collections.abc import Callable, Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils


def meet(when: str) -> None:
    """Returns when all have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(when)


def lowest(value: int) -> int:
    """Of what all give."""
    return value if jax.process_count() == 1 else int(np.min(multihost_utils.process_allgather(np.int32(value))))


def of_the_first(values: Sequence[int]) -> list[int]:
    """What the first process gives, as many as here."""
    if jax.process_count() == 1:
        return list(values)
    return [int(value) for value in multihost_utils.broadcast_one_to_all(np.asarray(values, np.int32))]


def make_barrier() -> Callable[..., None]:
    """Orbax's own for its background threads, but one in which the save has failed does not wait there.

    The others wait at an earlier barrier, for this very process: all of them would stand still until the timeout of 20
    minutes. So the thread ends, the process hears of the failure and ends with a line, and the others lose it.
    """
    wait = ocp.multihost.get_barrier_sync_fn()

    def barrier(*, key: str, timeout_ms: int) -> None:
        # Orbax comes here from a `finally`: an error that is on its way is seen from within.
        if sys.exc_info()[1] is None or threading.current_thread() is threading.main_thread():
            wait(key=key, timeout_ms=timeout_ms)

    return barrier
