"""What devices can do: the peaks of their makers, and the memory that a program may have.

Of one JAX device, in operations and bytes a second: a chip of a TPU v4 or v5p is one device, of a v2, v3 or 7x two.

Sources: for TPUs "System architecture" of each version at cloud.google.com/tpu/docs; for NVIDIA's GPUs the data sheets
of V100, A100, H100 and H200, dense (without sparsity), SXM unless it is called PCIe. The memory of a TPU is what its
compiler, libtpu 0.0.42, names as available when a program needs more (v5e: 15.75 of 16 GiB); of a GPU, what the data
sheet says.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from care_jax import machine

if TYPE_CHECKING:
    import jax

GIB = 2**30


class Hardware(NamedTuple):
    """One device; None is not known.

    Attributes:
      operations: a second, by the type of the matrices as HLO writes it; "" is any other.
      bandwidth: bytes a second between memory and processors.
      memory: bytes that a program may have.
      cache: bytes that may stay near the processors from one operation to the next; a TPU's programs say themselves
        what does.
    """

    operations: Mapping[str, float] | None
    bandwidth: float | None
    memory: int | None
    cache: int = 0

    def seconds(self, operations: Mapping[str, float]) -> float | None:
        """That matrix operations, by type, take at the peak; None where it is not known."""
        if self.operations is None:
            return None
        peaks = self.operations
        return sum(count / peaks.get(dtype, peaks[""]) for dtype, count in operations.items())


def _tpu(teraflops: float, gigabytes_per_second: float, memory_gib: float) -> Hardware:
    # JAX's default precision multiplies float32 as bfloat16 there.
    return Hardware({"": teraflops * 1e12}, gigabytes_per_second * 1e9, int(memory_gib * GIB))


def _nvidia(
    bfloat16: float, tf32: float, gigabytes_per_second: float, gigabytes: float, megabytes_of_cache: float
) -> Hardware:
    # JAX's default precision multiplies float32 as TF32 there.
    peaks = {"bf16": bfloat16 * 1e12, "f16": bfloat16 * 1e12, "": tf32 * 1e12}
    return Hardware(peaks, gigabytes_per_second * 1e9, int(gigabytes * 1e9), int(megabytes_of_cache * 1e6))


# By `device_kind`; the longest that it begins with counts.
DEVICES = {
    "TPU v2": _tpu(23, 350, 7.48),
    "TPU v3": _tpu(61.5, 450, 15.48),
    "TPU v4": _tpu(275, 1228, 30.75),
    "TPU v5 lite": _tpu(197, 819, 15.75),
    "TPU v5": _tpu(459, 2765, 95.74),
    "TPU v6 lite": _tpu(918, 1640, 31.25),
    "TPU7x": _tpu(2307 / 2, 7380 / 2, 94.75),
    "Tesla V100": _nvidia(125, 15.7, 900, 16, 6),
    "NVIDIA A100-SXM4-40GB": _nvidia(312, 156, 1555, 40, 40),
    "NVIDIA A100-SXM4-80GB": _nvidia(312, 156, 2039, 80, 40),
    "NVIDIA H100 PCIe": _nvidia(756, 378, 2000, 80, 50),
    "NVIDIA H100 80GB HBM3": _nvidia(989, 495, 3350, 80, 50),
    "NVIDIA H200": _nvidia(989, 495, 4800, 141, 50),
}
_UNKNOWN = Hardware(None, None, None)
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_COMMON_CACHE = 32 * 2**20


def of_kind(device_kind: str) -> Hardware:
    """The peaks of a device by what JAX calls it; of a kind that is not in the table nothing is known."""
    names = [name for name in DEVICES if device_kind.startswith(name)]
    return DEVICES[max(names, key=len)] if names else _UNKNOWN


def of_device(device: "jax.Device", count: int) -> Hardware:
    """The same of one of some devices that may be there: CPUs share memory and cache, a GPU says what it gives."""
    found = of_kind(device.device_kind)
    if device.platform == "cpu":
        return found._replace(memory=machine.memory() // count, cache=_cpu_cache() // count)
    if device.platform == "gpu" and device.client.runtime_type != "compile_only_runtime":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return found if limit is None else found._replace(memory=limit)
    return found


def _cpu_cache() -> int:
    """Bytes of the largest cache of the first processor, as Linux tells; else what is common today."""
    sizes = [_COMMON_CACHE] if not _CACHES.exists() else []
    for file in _CACHES.glob("index*/size"):
        found = re.fullmatch(r"(\d+)([KM])", file.read_text().strip())
        sizes += [int(found.group(1)) * {"K": 2**10, "M": 2**20}[found.group(2)]] if found else []
    return max(sizes, default=_COMMON_CACHE)
