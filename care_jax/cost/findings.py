"""What in a compiled program is rarely meant: each a line of its own."""

import re
from collections.abc import Sequence

from care_jax.cost.traffic import Move
from care_jax.devices.hlo import Array, Computation, Executed, Instruction, Program

_WIDE = ("f64", "c128")
_LARGE_PADDING = 1.5  # times an array's own bytes
_PADDING_SHARE = 0.1  # of all bytes that move
_SHOWN = 3
_COPIED = 1.5  # times the elements of the resident images: a copy may be padded


def warnings(program: Program, executed: Sequence[Executed], moved: Sequence[Move], *, resident: int = 0) -> list[str]:
    """Lines for float64, calls of the host, copies of resident images, padding.

    Args:
      program: as `hlo.read` gives it.
      executed: its instructions.
      moved: what they move.
      resident: elements of the images that are kept on the device; 0: none are.
    """
    found = [_float64(program), _host(executed), _copies(moved, resident), _padding(moved)]
    return [line for line in found if line]


def source(one: Instruction, computation: Computation | None = None) -> str:
    """Where in the model an instruction comes from, as JAX names it; what the compiler added, by what it takes."""
    name = one.value("op_name").replace("\\'", "'")
    if not name and computation and one.operands and one.operands[0] in computation.instructions:
        return f"of {source(computation.instructions[one.operands[0]])}"
    return re.sub(r"^jit\(steps?\)/", "", name) or one.name


def _float64(program: Program) -> str:
    wide = [
        one
        for computation in program.computations.values()
        for one in computation.instructions.values()
        if one.opcode not in ("parameter", "get-tuple-element") and any(x.dtype in _WIDE for x in one.arrays)
    ]
    return f"float64: {len(wide)} instructions compute in it, first {source(wide[0])}" if wide else ""


def _host(executed: Sequence[Executed]) -> str:
    called = [
        one.instruction
        for one in executed
        if "python" in one.instruction.value("custom_call_target")
        or one.instruction.opcode in ("infeed", "outfeed")
        or (one.instruction.opcode in ("send", "recv") and "is_host_transfer=true" in one.instruction.attributes)
    ]
    names = list(dict.fromkeys(map(source, called)))
    return f"host callbacks: every step waits for the host in {', '.join(names[:_SHOWN])}" if called else ""


def _copies(moved: Sequence[Move], resident: int) -> str:
    if not resident:
        return ""
    copies = [move for move in moved if any(_is_copy(array, resident) for array in move.executed.instruction.arrays)]
    if not copies:
        return ""
    num_bytes = sum(move.num_bytes for move in copies)
    kinds = ", ".join(dict.fromkeys(move.executed.instruction.opcode for move in copies))
    return f"resident examples are copied in every step: {num_bytes / 2**20:,.0f} MiB move in {len(copies)} ({kinds})"


def _is_copy(array: Array, resident: int) -> bool:
    if array.dtype in ("u8", "s8"):
        return resident <= array.size <= _COPIED * resident
    return array.size == resident


def _padding(moved: Sequence[Move]) -> str:
    total, padding = sum(move.num_bytes for move in moved), sum(move.padding for move in moved)
    if padding <= _PADDING_SHARE * total:
        return ""
    arrays = {
        str(array): array
        for move in moved
        for array in move.executed.instruction.arrays
        if array.space == 0 and array.padded_bytes > _LARGE_PADDING * array.num_bytes
    }
    worst = sorted(arrays.values(), key=lambda array: array.num_bytes - array.padded_bytes)[:_SHOWN]
    named = "; ".join(
        f"{array} takes {array.padded_bytes / 2**20:,.1f} MiB for {array.num_bytes / 2**20:,.1f}" for array in worst
    )
    return f"padding: {padding / total:.0%} of the bytes moved fill up tiles" + (f"; {named}" if named else "")
