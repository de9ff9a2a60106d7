"""The memory of devices, and what a compiled program takes of it."""

from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from care_jax.devices import together
from care_jax.machine import available_memory

_UNIT = 2**20  # processes compare numbers of 32 bits


class ProgramMemory(NamedTuple):
    """Bytes a device, as the compiler has laid them out: all but what is given back in place of an argument.

    Attributes:
      arguments: what goes in: the state, the images that are kept on the device, the batch.
      temporaries: what lives while it runs: activations above all.
      outputs: what comes out and takes no argument's place.
      program: its instructions.
    """

    arguments: int
    temporaries: int
    outputs: int
    program: int

    @property
    def peak(self) -> int:
        """All of it at once.

        The compiler's own peak is not the one: for CPUs it leaves temporaries out, for TPUs it may count vector memory.
        """
        return sum(self)


def of_program(compiled: Any) -> ProgramMemory:
    """What `jax.jit(...).lower(...).compile()` takes."""
    said = compiled.memory_analysis()
    return ProgramMemory(
        arguments=said.argument_size_in_bytes,
        temporaries=said.temp_size_in_bytes,
        outputs=said.output_size_in_bytes - said.alias_size_in_bytes,
        program=said.generated_code_size_in_bytes,
    )


def available(mesh: Mesh) -> int | None:
    """Bytes that a program may still have on each device of a mesh, now; None where devices don't say.

    CPU devices of one machine share its memory. Of several processes the one with the least counts, for all of them:
    they call this together.
    """
    own = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    if mesh.devices.flat[0].platform == "cpu":
        found = available_memory() // len(own)
    else:
        found = min(_left(device.memory_stats() or {}) for device in own)
    lowest = together.lowest(found // _UNIT) * _UNIT
    return None if lowest < 0 else lowest


def _left(stats: dict[str, int]) -> int:
    """Bytes; less than none where they are not known."""
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else -_UNIT


def amount(num_bytes: float, *, exact: bool = False) -> str:
    """Bytes in a unit that people read.

    >>> amount(16 * 2**30), amount(1536), amount(12)
    ('16.00 GiB', '1.5 KiB', '12 B')
    """
    for size, unit, digits in ((2**30, "GiB", 2), (2**20, "MiB", 1), (2**10, "KiB", 1)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.{digits}f} {unit}" + (f" ({num_bytes:,} bytes)" if exact else "")
    return f"{num_bytes:,.0f} B"
