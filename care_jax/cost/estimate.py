"""Compiles the step of a configuration for devices that need not be there, and reads what it costs from the program."""

import math
import re
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from care_jax.cost import findings
from care_jax.cost.hardware import Hardware
from care_jax.cost.operations import matrix_operations, uncounted
from care_jax.cost.traffic import Move, beyond, moves
from care_jax.devices import hlo
from care_jax.devices.collectives import collectives
from care_jax.devices.memory import of_program as program_memory
from care_jax.experiment import build, programs, stand_in
from care_jax.experiment.settings import of_clouds
from care_jax.experiment.stand_in import StandIn

LARGEST = 10  # operations that are listed
_EFFORT = "jax_exec_time_optimization_effort"
_REASON = 400  # characters of what a compiler says

Report = dict[str, Any]


def estimate(
    config: ml_collections.ConfigDict, mesh: Mesh, images: StandIn, device: Hardware, *, effort: float = 0.0
) -> Report:
    """What one step costs a device.

    Args:
      config: of the run.
      mesh: the devices to compile for.
      images: that are trained on, of which only the number is used.
      device: what one of them can do.
      effort: of the compiler, from -1 (soonest) to 1.

    Returns:
      Of JSON's types; docs/cost.md names every entry. A step that does not compile has `compiles` false, a `reason`,
      and no figures.

    Raises:
      ConfigError: one line that says what to change.
    """
    experiment = build.build(config, mesh, stand_in.dataset(config.data.name, images))
    report: Report = {
        "devices": mesh.size,
        "device": mesh.devices.flat[0].device_kind,
        "batch_size": config.train.batch_size,
        "micro_batches": config.train.micro_batches,
        "remat": config.model.remat,
        "placement": config.augment.placement,
        "dtype": config.model.dtype,
        "num_examples": len(images),
        "num_examples_source": images.source,
        "inputs": "clouds" if of_clouds(config) else "images",
        "effort": effort,
        "versions": _versions(),
    }
    before = getattr(jax.config, _EFFORT)
    jax.config.update(_EFFORT, effort)
    try:
        began = time.perf_counter()
        lowered = lower(experiment)
        report["trace_seconds"], began = round(time.perf_counter() - began, 1), time.perf_counter()
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            return report | {
                "compiles": False,
                "reason": reason(str(error)),
                "compile_seconds": round(time.perf_counter() - began, 1),
                "memory": {"available": device.memory},
            }
        report |= {"compiles": True, "compile_seconds": round(time.perf_counter() - began, 1)}
    finally:
        jax.config.update(_EFFORT, before)
    if config.train.micro_batches > 1 or config.model.remat:
        plain = config.copy_and_resolve_references()
        plain.train.micro_batches, plain.model.remat = 1, False
        lowered = lower(build.build(plain, mesh, experiment.dataset))
    shape = stand_in.image_shape(config)
    return report | figures(
        compiled,
        device,
        images_a_device=config.train.batch_size / mesh.size,
        needed=_operations(lowered.as_text("hlo")) / mesh.size,
        resident=len(images) * math.prod(shape) if shape and config.augment.placement == "device" else 0,
    )


def lower(experiment: build.Experiment) -> Any:
    """The step as run.py makes it, before it is compiled."""
    return programs.lower(experiment, stand_in.image_shape(experiment.config))


def _operations(text: str) -> int:
    program = hlo.read(text)
    return sum(matrix_operations(program, hlo.executed(program)).values())


def figures(compiled: Any, device: Hardware, *, images_a_device: float, needed: float, resident: int = 0) -> Report:
    """What a compiled program costs a device.

    Args:
      compiled: `jax.jit(...).lower(...).compile()`.
      device: what it can do.
      images_a_device: that one run of the program takes.
      needed: operations a device of the step as it is written, nothing computed twice.
      resident: elements of the images that are kept on the device; 0: none are.
    """
    program = hlo.read(compiled.as_text())
    executed = hlo.executed(program)
    operations, moved = matrix_operations(program, executed), moves(program, executed)
    num_bytes, padding = sum(move.num_bytes for move in moved), sum(move.padding for move in moved)
    far = beyond(program, device.cache)
    far_bytes = sum(move.num_bytes for move in moves(far, hlo.executed(far))) if device.cache else num_bytes
    unknown = {one.instruction.name for one in executed if not one.known}
    said = compiled.cost_analysis() or {}
    return {
        "memory": memory(compiled, device),
        "operations": {
            "total": sum(operations.values()),
            "needed": round(needed),
            "by_type": operations,
            "not_counted": uncounted(executed),
        },
        "bytes": {"total": num_bytes, "padding": padding, "beyond_cache": far_bytes, "cache": device.cache},
        "compiler": {
            # Of these a loop's body counts once.
            "operations": said.get("flops"),
            "bytes": said.get("bytes accessed"),
            "seconds": said["optimal_seconds"] if said.get("optimal_seconds", 0) > 0 else None,
        },
        "instructions_in_loops_of_unknown_length": len(unknown),
        "collectives": _collectives(program),
        "floor": floor(operations, far_bytes, device, images_a_device, needed),
        "largest": [_described(move) for move in sorted(moved, key=lambda move: -move.num_bytes)[:LARGEST]],
        "warnings": findings.warnings(program, executed, moved, resident=resident),
    }


def memory(compiled: Any, device: Hardware) -> Report:
    """Bytes a device; their sum, the compiler's own peak, and what there is."""
    parts = program_memory(compiled)
    return parts._asdict() | {
        "peak": parts.peak,
        "compiler_peak": getattr(compiled.memory_analysis(), "peak_memory_in_bytes", None),
        "available": device.memory,
    }


def floor(
    operations: Mapping[str, int], num_bytes: int, device: Hardware, images_a_device: float, needed: float
) -> Report:
    """No step of this program can be faster: the slower of computing and moving, as if the other were free.

    Bytes are those that no cache can hold.

    The share of the peak is of the operations needed: what is computed twice does not count.
    """
    by_operations = device.seconds(operations)
    by_bytes = num_bytes / device.bandwidth if device.bandwidth else None
    known = [seconds for seconds in (by_operations, by_bytes) if seconds is not None]
    seconds = max(known) if len(known) == 2 else None
    total = sum(operations.values())
    return {
        "seconds_by_operations": by_operations,
        "seconds_by_bytes": by_bytes,
        "seconds": seconds,
        "images_per_second_per_device": images_a_device / seconds if seconds else None,
        "share_of_peak": by_operations / seconds * min(needed / total, 1.0) if seconds and by_operations else None,
    }


def reason(text: str) -> str:
    """What a compiler says of a program that it can't compile, in at most two lines' worth."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = " ".join(lines[:2]) or "no reason given"
    return said if len(said) <= _REASON else f"{said[: _REASON - 3]}..."


def needed_memory(reason: str) -> int | None:
    """Bytes that a program would have taken, where the compiler names them as the reason to refuse it."""
    found = re.search(r"\(([\d.]+)([KMGT])\) exceeds available", reason)
    return round(float(found.group(1)) * 1024 ** (1 + "KMGT".index(found.group(2)))) if found else None


def _collectives(program: hlo.Program) -> list[Report]:
    """By kind and type: how many a step, and the bytes of their results."""
    found: dict[tuple[str, str], list[int]] = {}
    for one in collectives(program):
        for dtype in dict.fromkeys(array.dtype for array in one.arrays):
            entry = found.setdefault((one.kind, dtype), [0, 0])
            entry[0] += one.times
            entry[1] += one.times * sum(array.num_bytes for array in one.arrays if array.dtype == dtype)
    rows = ({"kind": k, "type": d, "number": n, "bytes": b} for (k, d), (n, b) in found.items())
    return sorted(rows, key=lambda row: -int(row["bytes"]))


def _described(move: Move) -> Report:
    one = move.executed.instruction
    return {
        "name": findings.source(one, move.executed.computation),
        "kind": one.opcode,
        "result": [str(array) for array in one.arrays],
        "bytes": move.num_bytes,
        "padding": move.padding,
        "times": move.executed.times,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in ("care_jax", "jax", "jaxlib", "libtpu"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
