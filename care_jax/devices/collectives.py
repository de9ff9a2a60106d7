"""What devices send each other in a compiled step, read from its HLO."""

import re
from typing import NamedTuple

# Bytes of an element; all that a step's collectives carry.
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$", re.MULTILINE)
_INSTRUCTION = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(_KINDS)})(-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_LOOP = re.compile(r"body=%?([\w.-]+).*?known_trip_count[^\d]*(\d+)")


class Collective(NamedTuple):
    """One instruction.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
      arrays: what a device holds of its result, as HLO writes types.
      num_bytes: of that result, times the turns of the loops around it. A ring all-reduce of n bytes sends about 2 n
        from each device, an all-gather about n.
      times: turns of the loops around it in one step.
    """

    kind: str
    arrays: str
    num_bytes: int
    times: int


def collectives(hlo: str) -> list[Collective]:
    """The collectives of a compiled program, largest first.

    Args:
      hlo: `jax.jit(step).lower(state, batch).compile().as_text()`.
    """
    starts = [(match.start(), match.group(1)) for match in _COMPUTATION.finditer(hlo)]
    ends = [start for start, _ in starts[1:]] + [len(hlo)]
    bodies = {name: hlo[start:end] for (start, name), end in zip(starts, ends, strict=True)}
    callers = {body: (name, int(turns)) for name, text in bodies.items() for body, turns in _LOOP.findall(text)}

    def times(name: str) -> int:
        if name not in callers:
            return 1
        caller, turns = callers[name]
        return turns * times(caller)

    found = []
    for name, text in bodies.items():
        for match in _INSTRUCTION.finditer(text):
            arrays = _ARRAY.findall(match.group(1))
            if match.group(3):  # an asynchronous start lists operands and results
                arrays = arrays[len(arrays) // 2 :]
            shown = ", ".join(f"{dtype}[{dims}]" for dtype, dims in arrays)
            total = sum(_size(dtype, dims) for dtype, dims in arrays)
            found.append(Collective(match.group(2), shown, total * times(name), times(name)))
    return sorted(found, key=lambda one: -one.num_bytes)


def _size(dtype: str, dims: str) -> int:
    size = _BYTES[dtype]
    for dim in filter(None, dims.split(",")):
        size *= int(dim)
    return size
