"""Reads programs as XLA writes them, for CPUs, GPUs and TPUs.

Compiled ones, `jax.jit(step).lower(...).compile().as_text()`, and those that are not: `lower(...).as_text("hlo")`.

program = hlo.read(text)
for one in hlo.executed(program):      # what a device does, in a loop's body as often as the loop turns
    one.instruction.opcode, one.times
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) (?:\(.*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([^\]]*)\](?:\{([^}]*)\})?")
_BITS = re.compile(r"[a-z]+(\d+)")
_NAME = re.compile(r"([\w.-]+)(?=,|$)")
_COMMENT = re.compile(r"/\*.*?\*/")
# Calls that name, reserve or mark arrays: no work.
BOOKKEEPING = (
    *("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound", "GatherScatterIndicesBitpacked"),
    *("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "annotate_device_placement"),
)


class Array(NamedTuple):
    """One array as a program holds it.

    Attributes:
      dtype: as HLO writes it, "f32".
      dims: the shape.
      order: axes from the fastest moving to the slowest.
      tile: sides of the tiles that the fastest axes are padded to, slowest first; () where arrays have none.
      space: of memory; 0 is the device's main memory, 1 a TPU's vector memory.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.dims)

    @property
    def num_bytes(self) -> int:
        """Of its elements alone."""
        return self.size * _bits(self.dtype) // 8

    @property
    def padded_bytes(self) -> int:
        """That it takes in memory: every axis of a tile is filled up."""
        order = self.order or tuple(reversed(range(len(self.dims))))
        sides = [1] * (len(self.tile) - len(order)) + [self.dims[axis] for axis in reversed(order)]
        whole = len(sides) - len(self.tile)
        tiled = [-(-side // tile) * tile for side, tile in zip(sides[whole:], self.tile, strict=True)]
        return math.prod(sides[:whole] + tiled) * _bits(self.dtype) // 8

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


class Instruction(NamedTuple):
    """One line.

    Attributes:
      name: unique in its computation.
      opcode: "fusion", "all-reduce-start", ...
      arrays: of its result, one for each part of a tuple.
      operands: names of instructions of the same computation; a constant's value, a parameter's place.
      attributes: the rest of the line.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str

    def called(self, attribute: str) -> tuple[str, ...]:
        """Names of the computations that an attribute (`calls`, `body`, `branch_computations`) gives."""
        found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.-]+)", self.attributes)
        return tuple(re.findall(r"[\w.-]+", found.group(1))) if found else ()

    def value(self, attribute: str) -> str:
        """What an attribute is set to; empty where it has none."""
        found = re.search(rf"\b{attribute}=(\"[^\"]*\"|\{{[^}}]*\}}|[^\s,]+)", self.attributes)
        return found.group(1).strip('"') if found else ""


class Computation(NamedTuple):
    """Instructions by name, in their order, and the one whose result it gives."""

    instructions: dict[str, Instruction]
    root: str


class Program(NamedTuple):
    """Computations by name, and the one that is run."""

    computations: dict[str, Computation]
    entry: str

    def called(self, one: Instruction, attribute: str = "calls") -> Computation:
        """The first computation that an attribute of an instruction gives."""
        return self.computations[one.called(attribute)[0]]


class Executed(NamedTuple):
    """An instruction that a device executes by itself, not as a part of a fusion.

    Attributes:
      instruction: as it stands.
      computation: that it stands in.
      times: turns of the loops around it.
      known: whether each of these loops said how often it turns; one that did not counts once.
    """

    instruction: Instruction
    computation: Computation
    times: int
    known: bool


def read(text: str) -> Program:
    """The program of an HLO module.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    instructions: dict[str, Instruction] = {}
    entry, name, root = "", "", ""
    for line in text.splitlines():
        if line.startswith(" "):
            found = _INSTRUCTION.match(line) if name else None
            if found:
                instructions[found.group(2)] = _instruction(found.group(2), found.group(3))
                root = found.group(2) if found.group(1) else root
        elif header := _HEADER.match(line):
            name, root, instructions = header.group(2), "", {}
            entry = name if header.group(1) else entry
        elif line.startswith("}") and name:
            computations[name] = Computation(instructions, root or next(reversed(instructions)))
            name = ""
    if entry not in computations:
        raise ValueError("no HLO module: it has no ENTRY computation")
    return Program(computations, entry)


def executed(program: Program) -> list[Executed]:
    """What a device executes, in order; of the branches of a condition the longest.

    Instead of loops, calls and asynchronous computations there are the instructions inside them.
    """
    return list(_executed(program, program.entry, 1, True))


def _executed(program: Program, name: str, times: int, known: bool) -> Iterator[Executed]:
    computation = program.computations[name]
    for one in computation.instructions.values():
        if one.opcode == "while":
            turns = trip_count(program, computation, one)
            yield from _executed(
                program, one.called("body")[0], times * (1 if turns is None else turns), known and turns is not None
            )
        elif one.opcode == "conditional":
            names = one.called("branch_computations") or (
                *one.called("true_computation"),
                *one.called("false_computation"),
            )
            yield from max((list(_executed(program, branch, times, known)) for branch in names), key=len)
        elif one.opcode in ("call", "async-start"):
            yield from _executed(program, (one.called("to_apply") or one.called("calls"))[0], times, known)
        else:
            yield Executed(one, computation, times, known)


def trip_count(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """How often a loop turns: as the compiler says, or as a counter from one constant to another does; else None.

    Args:
      program: of which it is a part.
      computation: in which the loop stands.
      loop: a `while`.
    """
    said = re.search(r"known_trip_count\W+n\W+(\d+)", loop.attributes)
    if said:
        return int(said.group(1))
    condition, body = program.called(loop, "condition"), program.called(loop, "body")
    test = condition.instructions[condition.root]
    bounds = [origin(condition, name) for name in test.operands]
    if test.opcode == "fusion":  # of the comparison alone
        inside = program.called(test)
        test = inside.instructions[inside.root]
        places = [origin(inside, name) for name in test.operands]
        bounds = [bounds[int(one.operands[0])] if one.opcode == "parameter" else one for one in places]
    initial = computation.instructions[loop.operands[0]]
    if test.opcode != "compare" or bounds[0].opcode != "get-tuple-element" or initial.opcode != "tuple":
        return None

    def start(one: Instruction) -> int | None:
        if one.opcode == "get-tuple-element":  # of the loop's tuple, unchanged by it where it is the limit
            one = origin(computation, initial.operands[int(one.value("index"))])
        return _constant(one)

    first, last = start(bounds[0]), start(bounds[1])
    step, direction = _step(program, body, int(bounds[0].value("index"))), test.value("direction")
    if first is None or last is None or not step or direction not in ("LT", "GT", "LE", "GE", "NE"):
        return None
    if direction in ("LE", "GE"):
        last += 1 if step > 0 else -1
    return max(0, -(-(last - first) // step))


def results(computation: Computation, one: Instruction) -> tuple[Array, ...]:
    """The arrays that an instruction makes: the first half of an asynchronous one may list its operands before them."""
    if not one.opcode.endswith("-start"):
        return one.arrays
    given = sum(len(computation.instructions[name].arrays) for name in one.operands)
    return one.arrays[given : 2 * given] if len(one.arrays) > given else one.arrays


def origin(computation: Computation, name: str) -> Instruction:
    """The instruction that made the values that one has: copies and other views are looked through."""
    one = computation.instructions[name]
    while one.opcode in ("copy", "bitcast", "reshape", "convert"):
        one = computation.instructions[one.operands[0]]
    return one


def _constant(one: Instruction) -> int | None:
    return int(one.operands[0]) if one.opcode == "constant" and re.fullmatch(r"-?\d+", one.operands[0]) else None


def _step(program: Program, body: Computation, place: int) -> int | None:
    """The constant that one turn adds to an element of the loop's tuple."""
    root = body.instructions[body.root]
    if root.opcode != "tuple":
        return None
    added = origin(body, root.operands[place])
    inside = program.called(added) if added.opcode == "fusion" else body
    if (added if inside is body else inside.instructions[inside.root]).opcode != "add":
        return None
    parts = [origin(body, name) for name in added.operands]
    counters = [one for one in parts if one.opcode == "get-tuple-element" and one.value("index") == str(place)]
    steps = [step for step in map(_constant, parts) if step is not None]
    return steps[0] if len(counters) == 1 and len(steps) == 1 else None


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opened = text.index("(", end)
    closed = _closing(text, opened)
    opcode, inside = text[end:opened].strip(), text[opened + 1 : closed]
    operands = (inside,) if opcode in ("constant", "parameter") else tuple(_NAME.findall(_COMMENT.sub("", inside)))
    return Instruction(name, opcode, tuple(map(_array, _ARRAY.findall(text[:end]))), operands, text[closed + 1 :])


def _closing(text: str, opened: int) -> int:
    depth = 0
    for found in re.compile(r"[()]").finditer(text, opened):
        depth += 1 if found.group() == "(" else -1
        if not depth:
            return found.start()
    raise ValueError(f"unbalanced HLO: {text[:80]}")


def _array(found: tuple[str, str, str]) -> Array:
    dtype, dims, layout = found
    order, _, rest = layout.partition(":")
    tile, space = re.match(r".*?T\(([\d,]*)\)", rest), re.search(r"S\((\d+)\)", rest)
    return Array(
        dtype,
        _numbers(dims),
        _numbers(order),
        _numbers(tile.group(1)) if tile else (),
        int(space.group(1)) if space else 0,
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _bits(dtype: str) -> int:
    found = _BITS.match(dtype)
    return int(found.group(1)) if found else 8 * (dtype == "pred")
