"""What devices send each other in a compiled step, read from its HLO."""

from collections.abc import Iterator
from typing import NamedTuple

from care_jax.devices import hlo
from care_jax.devices.hlo import Array, Computation, Instruction, Program

KINDS = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
    *("collective-broadcast", "ragged-all-to-all"),
)


class Collective(NamedTuple):
    """One instruction.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute" or a rarer one.
      arrays: what a device holds of its result.
      num_bytes: of that result without padding, times the turns of the loops around it. A ring all-reduce of n bytes
        sends about 2 n from each device, an all-gather about n.
      times: turns of the loops around it in one step.
    """

    kind: str
    arrays: tuple[Array, ...]
    num_bytes: int
    times: int


def collectives(program: str | Program) -> list[Collective]:
    """The collectives of a compiled program, largest first.

    Those that are started and waited for by two instructions count once, and so do those that the compiler has cut into
    pieces between which it computes (they share a channel).

    Args:
      program: `jax.jit(step).lower(state, batch).compile().as_text()`, or what `hlo.read` makes of it.
    """
    program = hlo.read(program) if isinstance(program, str) else program
    found, fused = [], set()
    for one in hlo.executed(program):
        for computation, instruction in _with_fused(program, one.computation, one.instruction):
            kind = instruction.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            if instruction is not one.instruction:
                channel = instruction.value("channel_id") or instruction.name
                if channel in fused:
                    continue
                fused.add(channel)
            arrays = hlo.results(computation, instruction)
            num_bytes = sum(array.num_bytes for array in arrays)
            found.append(Collective(kind, arrays, num_bytes * one.times, one.times))
    return sorted(found, key=lambda one: -one.num_bytes)


def _with_fused(
    program: Program, computation: Computation, one: Instruction
) -> Iterator[tuple[Computation, Instruction]]:
    """An instruction, and those of the fusion that it is."""
    yield computation, one
    if one.opcode == "fusion":
        inside = program.called(one)
        for part in inside.instructions.values():
            yield from _with_fused(program, inside, part)
