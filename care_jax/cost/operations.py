"""Floating-point operations of a compiled program: those of matrix products and convolutions.

XLA's own count (`compiled.cost_analysis()["flops"]`) takes the body of a loop once, however often it turns, and adds
one operation for each element of everything else. Here a loop counts as often as it turns, and what is element by
element not at all: it does not run on the units that a device's peak is of.
"""

import functools
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from care_jax.devices import hlo
from care_jax.devices.hlo import Array, Computation, Executed, Instruction, Program

# On GPUs libraries compute them. Of (first operand, second, result) which are the input, the kernel and the output.
_CUDNN = {
    "__cudnn$convForward": (0, 1, 2),
    "__cudnn$convBiasActivationForward": (0, 1, 2),
    "__cudnn$convBackwardInput": (2, 1, 0),
    "__cudnn$convBackwardFilter": (0, 2, 1),
}
# And matrix products: "__cublas$gemm", "__cublas$lt$matmul", "__onednn$matmul".
_MATMUL = re.compile(r"matmul|gemm")


def matrix_operations(program: Program, executed: Sequence[Executed]) -> dict[str, int]:
    """Of one device in one run of the program, by the type of what is multiplied; an addition counts as well.

    Args:
      program: as `hlo.read` gives it.
      executed: its instructions, as `hlo.executed` gives them.
    """
    total: dict[str, int] = {}
    for one in executed:
        for dtype, count in _of_instruction(program, one.computation, one.instruction):
            total[dtype] = total.get(dtype, 0) + one.times * count
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _of_instruction(program: Program, computation: Computation, one: Instruction) -> Iterator[tuple[str, int]]:
    if one.opcode == "fusion":
        inside = program.called(one)
        for part in inside.instructions.values():
            yield from _of_instruction(program, inside, part)
    target = one.value("custom_call_target") if one.opcode == "custom-call" else ""
    if one.opcode not in ("convolution", "dot") and target not in _CUDNN and not _MATMUL.search(target):
        return
    operands = [computation.instructions[name].arrays[0] for name in one.operands]
    if one.opcode == "dot":
        yield operands[0].dtype, _of_dot(operands[0], one.arrays[0], one.value("lhs_contracting_dims"))
    elif one.opcode == "convolution":
        yield operands[0].dtype, _of_convolution(one, operands[0], operands[1], one.arrays[0])
    elif target in _CUDNN:
        arrays = [operands[0], operands[1], one.arrays[0]]
        given, kernel, result = (arrays[place] for place in _CUDNN[target])
        yield operands[0].dtype, _of_convolution(one, given, kernel, result)
    else:
        found = re.search(r'lhs_contracting_dimensions":\[([^\]]*)\]', one.attributes)
        axes = found.group(1) if found else str(len(operands[0].dims) - 1)
        yield operands[0].dtype, _of_dot(operands[0], one.arrays[0], axes)


def _of_dot(left: Array, result: Array, contracted: str) -> int:
    return 2 * result.size * math.prod(left.dims[int(axis)] for axis in re.findall(r"\d+", contracted))


def _of_convolution(one: Instruction, given: Array, kernel: Array, result: Array) -> int:
    """2 * batch * channels in * channels out * pairs of a pixel and a place in the kernel that meet.

    Pairs that meet in padding, or in the zeros that stand between dilated pixels, are not counted.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    assert labels, one.name
    window = re.search(r"window=\{([^}]*)\}", one.attributes)
    fields = dict(re.findall(r"(\w+)=(\S+)", window.group(1))) if window else {}
    given_labels, kernel_labels, result_labels = labels.groups()
    axes = sorted(set(given_labels) - {"b", "f"})
    pairs = 1
    for place, label in enumerate(axes):

        def field(name: str, default: str, place: int = place) -> str:
            return fields[name].split("x")[place] if name in fields else default

        pairs *= _pairs(
            given.dims[given_labels.index(label)],
            kernel.dims[kernel_labels.index(label)],
            result.dims[result_labels.index(label)],
            int(field("stride", "1")),
            int(field("pad", "0_0").partition("_")[0]),
            int(field("lhs_dilate", "1")),
            int(field("rhs_dilate", "1")),
        )
    groups = int(one.value("batch_group_count") or 1)
    channels = kernel.dims[kernel_labels.index("i")] * kernel.dims[kernel_labels.index("o")]
    return 2 * pairs * channels * given.dims[given_labels.index("b")] // groups


@functools.lru_cache(maxsize=4096)
def _pairs(given: int, kernel: int, result: int, stride: int, pad: int, dilation: int, kernel_dilation: int) -> int:
    """Along one axis: how many of (place of the result, place in the kernel) lie on a pixel."""
    at = np.arange(result)[:, None] * stride + np.arange(kernel) * kernel_dilation - pad
    return int(((at >= 0) & (at <= (given - 1) * dilation) & (at % dilation == 0)).sum())


def uncounted(executed: Sequence[Executed]) -> dict[str, int]:
    """Calls of code that the compiler does not show, and how often they are made: their operations are not counted."""
    found: dict[str, int] = {}
    for one in executed:
        target = one.instruction.value("custom_call_target") if one.instruction.opcode == "custom-call" else ""
        if target and target not in hlo.BOOKKEEPING and target not in _CUDNN and not _MATMUL.search(target):
            found[target] = found.get(target, 0) + one.times
    return found
