"""The cores of a machine without accelerators as devices of JAX, each of which embeds its part of a batch.

XLA:CPU shares a convolution out over blocks of 64 output features or more, so that most of a narrow network runs on one
core, however many there are; devices share out the images.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

import jax

from care_jax.devices import accelerator, distributed
from care_jax.errors import UserError

MOST = 2  # more have not been timed; each has parameters, the optimiser's state and resident images to itself
_NOT_TOLD = -1  # JAX's own word
_COUNT = "--xla_force_host_platform_device_count"
# A process that was suspended, or had to wait for a core, is not stuck: XLA would end it after a minute.
_WAITING = "--xla_cpu_collective_call"
_PATIENCE = f"{_WAITING}_warn_stuck_timeout_seconds=600 {_WAITING}_terminate_timeout_seconds=3600"


class CoresError(UserError, ValueError):
    """JAX_NUM_CPU_DEVICES is no number of devices."""


def share_out(divide: Iterable[int] = ()) -> None:
    """Makes the cores that this process may use devices of JAX; to be called before anything is computed.

    They are 1 or 2, no more than the cores. JAX_NUM_CPU_DEVICES and XLA_FLAGS that say how many go first. Nothing
    changes in one of several processes, on a TPU's host, and where JAX has begun; nor do GPUs.

    Args:
      divide: what the number has to divide, of batches for instance.

    Raises:
      CoresError: JAX_NUM_CPU_DEVICES is below 1.
    """
    told = getattr(jax.config, "jax_num_cpu_devices", _NOT_TOLD)
    if told < 1 and told != _NOT_TOLD:
        raise CoresError(f"JAX_NUM_CPU_DEVICES={told}: give a number of devices from 1 on, or leave it out")
    if distributed.is_active() or accelerator.has_tpu():
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if told == _NOT_TOLD and _COUNT not in flags:
        with suppress(RuntimeError):  # it has begun
            jax.config.update("jax_num_cpu_devices", count(available(), divide))
    if _WAITING not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_PATIENCE}".strip()


def count(cores: int, divide: Iterable[int] = ()) -> int:
    """The largest power of two up to MOST and the cores that divides all of `divide`.

    >>> count(6), count(1), count(8, [50]), count(8, [33])
    (2, 1, 2, 1)
    """
    number, sizes = MOST, list(divide)
    while number > 1 and (number > cores or any(size % number for size in sizes)):
        number //= 2
    return number


def available() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
