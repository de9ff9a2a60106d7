"""What this machine's devices reach: a large product of matrices, a large copy. JAX is imported as it is needed."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from care_jax.cost.hardware import Hardware


def hardware(device: Hardware, *, on_cpu: bool, count: int) -> Hardware:
    """A device of this machine with its peaks as measured, which takes seconds and 0.5 GiB (of a GPU 2 GiB).

    Args:
      device: keeps its memory.
      on_cpu: whether it is one.
      count: devices that share the machine.
    """
    found = rates(on_cpu=on_cpu)
    operations = {"": found["float32"] / count}
    if "bfloat16" in found:
        operations["bf16"] = found["bfloat16"] / count
    return device._replace(operations=operations, bandwidth=found["copy"] / count)


def rates(*, on_cpu: bool) -> dict[str, float]:
    """Of the first device: {"float32": operations a second, "bfloat16" (but of CPUs), "copy": bytes a second}."""
    size, repeats = (2048, 3) if on_cpu else (8192, 20)
    types = ("float32",) if on_cpu else ("float32", "bfloat16")
    found = {dtype: measure_matmul(dtype, size, repeats) for dtype in types}
    return {**found, "copy": measure_copy(2**28 if on_cpu else 2**30, 3 if on_cpu else 10)}


def measure_matmul(dtype: str, size: int, repeats: int = 10) -> float:
    """Operations a second of a product of two [size, size] matrices, the fastest of `repeats`; JAX's default precision.

    On NVIDIA's GPUs that is TF32 for float32, in a convolution as here.
    """
    import jax

    keys = jax.random.split(jax.random.key(0))
    left, right = (jax.random.normal(key, (size, size)).astype(dtype) for key in keys)
    return 2 * size**3 / _fastest(jax.jit(lambda a, b: a @ b), left, right, repeats=repeats)


def measure_copy(num_bytes: int, repeats: int = 10) -> float:
    """Bytes a second, read and written, of copying a large array, the fastest of `repeats`."""
    import jax
    import jax.numpy as jnp

    array = jnp.zeros((num_bytes // 4,), jnp.float32)
    # The addition costs nothing beside the memory's time; a bare copy might be left out by the compiler.
    return 2 * array.nbytes / _fastest(jax.jit(lambda x: x + 1), array, repeats=repeats)


def _fastest(function: Callable[..., Any], *arguments: object, repeats: int) -> float:
    import jax

    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(3):
        # Queued one after the other, so that the time of a call from Python does not count.
        began = time.perf_counter()
        jax.block_until_ready([function(*arguments) for _ in range(repeats)])
        times.append((time.perf_counter() - began) / repeats)
    return float(np.min(times))
