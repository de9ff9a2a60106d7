"""What a compiled program moves between a device's memory and its processors, and what of it is padding.

The rule: each instruction that is executed by itself reads its operands and writes its result once, whole arrays with
the padding of their tiles; but of what it only takes a slice, or rows, of, these alone. A TPU's vector memory is not
the device's memory: what lies there moves nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from care_jax.devices import hlo
from care_jax.devices.hlo import Array, Computation, Executed, Instruction, Program

# Names for other arrays.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "add-dependency"),
    *("partition-id", "replica-id", "domain"),
)
_VIEWS = ("bitcast", "reshape", "copy", "convert")
_SLICES = ("slice", "dynamic-slice", "gather")
_MAIN, _NEAR = 0, 1


class Move(NamedTuple):
    """What one instruction moves, in all its turns.

    Attributes:
      executed: the instruction.
      num_bytes: read and written, padding included.
      padding: of them.
    """

    executed: Executed
    num_bytes: int
    padding: int


class _Amount(NamedTuple):
    padded: int
    bare: int

    def __add__(self, other: object) -> "_Amount":
        assert isinstance(other, _Amount)
        return _Amount(self.padded + other.padded, self.bare + other.bare)


_NOTHING = _Amount(0, 0)


def moves(program: Program, executed: Sequence[Executed]) -> list[Move]:
    """Of each instruction that moves anything, in order.

    Args:
      program: as `hlo.read` gives it.
      executed: its instructions, as `hlo.executed` gives them.
    """
    found = []
    for one in executed:
        amount = _of_instruction(program, one.computation, one.instruction)
        if amount.padded:
            found.append(Move(one, amount.padded * one.times, (amount.padded - amount.bare) * one.times))
    return found


def beyond(program: Program, cache: int) -> Program:
    """The program with every array that a cache could hold put into it, where it moves nothing."""

    def placed(array: Array) -> Array:
        return array._replace(space=_NEAR) if array.padded_bytes <= cache else array

    computations = {
        name: computation._replace(
            instructions={
                key: one._replace(arrays=tuple(map(placed, one.arrays)))
                for key, one in computation.instructions.items()
            }
        )
        for name, computation in program.computations.items()
    }
    return program._replace(computations=computations)


def _amount(arrays: Iterable[Array]) -> _Amount:
    total = _NOTHING
    for array in arrays:
        if array.space == _MAIN:
            total += _Amount(array.padded_bytes, array.num_bytes)
    return total


def _of_instruction(program: Program, computation: Computation, one: Instruction) -> _Amount:
    operands = [computation.instructions[name] for name in one.operands] if one.opcode not in _FREE else []
    if one.opcode in _FREE or (one.opcode.endswith(("-done", "-update")) and one.opcode != "async-update"):
        return _NOTHING
    if one.opcode == "custom-call" and one.value("custom_call_target") in hlo.BOOKKEEPING:
        return _NOTHING
    if one.opcode in ("copy-start", "slice-start"):
        # (target, source, context) or ((sources), target, context): as much as the smaller of the two.
        ends = one.arrays[:2]
        least = min(ends, key=lambda array: array.size)
        return _amount(least._replace(space=end.space) for end in ends)
    if one.opcode == "fusion":
        inside = program.called(one)
        read = _NOTHING
        for place, operand in enumerate(operands):
            read += _read(program, inside, place, operand.arrays)
        return read + _written(program, inside, inside.root, one.arrays)
    if one.opcode in _SLICES:
        return _amount((*one.arrays, one.arrays[0]._replace(space=operands[0].arrays[0].space)))
    if one.opcode == "dynamic-update-slice":
        return _amount((*operands[1].arrays, operands[1].arrays[0]._replace(space=one.arrays[0].space)))
    return _amount(array for operand in operands for array in operand.arrays) + _amount(hlo.results(computation, one))


def _read(program: Program, inside: Computation, place: int, arrays: tuple[Array, ...]) -> _Amount:
    """Of the operand that a fused computation knows as a parameter: all, or what its slices take."""
    whole = _amount(arrays)
    if not whole.padded:
        return whole
    taken = _taken(program, inside, _parameter(inside, place))
    if taken is None or taken.padded > whole.padded:
        return whole
    return taken


def _taken(program: Program, inside: Computation, name: str) -> _Amount | None:
    """By all users of an array in a fusion; None if one of them takes it whole."""
    total = _NOTHING
    if name == inside.root:
        return None
    for user in inside.instructions.values():
        if user.opcode in ("parameter", "constant") or name not in user.operands:
            continue
        if user.opcode in _SLICES and user.operands[0] == name and name not in user.operands[1:]:
            part: _Amount | None = _amount(array._replace(space=_MAIN) for array in user.arrays)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name and name not in user.operands[1:]:
            part = _NOTHING
        elif user.opcode in _VIEWS:
            part = _taken(program, inside, user.name)
        elif user.opcode == "fusion":
            called = program.called(user)
            part = _taken(program, called, _parameter(called, user.operands.index(name)))
            if part is None and all(one.opcode in ("parameter", *_VIEWS) for one in called.instructions.values()):
                part = _taken(program, inside, user.name)
        else:
            part = None
        if part is None:
            return None
        total += part
    return total


def _parameter(inside: Computation, place: int) -> str:
    return next(
        name for name, one in inside.instructions.items() if one.opcode == "parameter" and one.operands[0] == str(place)
    )


def _written(program: Program, inside: Computation, root: str, arrays: tuple[Array, ...]) -> _Amount:
    """By a fusion: its result, or the part of it that an update in place touches."""
    one = inside.instructions[root]
    while one.opcode in _VIEWS:
        one = inside.instructions[one.operands[0]]
    if one.opcode == "tuple" and len(one.operands) == len(arrays):
        total = _NOTHING
        for name, array in zip(one.operands, arrays, strict=True):
            total += _written(program, inside, name, (array,))
        return total
    if one.opcode == "fusion" and len(arrays) == 1:
        called = program.called(one)
        return _written(program, called, called.root, arrays)
    if one.opcode == "dynamic-update-slice":
        update = inside.instructions[one.operands[1]].arrays[0]
        return _amount([update._replace(space=arrays[0].space)])
    return _amount(arrays)
