"""Where arrays live: one mesh axis, `data`; parameters on every device, batches cut over them."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_T = TypeVar("_T")


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices (or those given) with the one axis `data`.

    Auto axes let the compiler cut `[b, d] -> [g, b/g, d]` whether or not the groups fit the devices.
    """
    # Each process brings rows of its own, side by side: so its devices must lie, whatever order JAX was told to list.
    devices = sorted(jax.devices(), key=lambda one: (one.process_index, one.id)) if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def along_axis(mesh: Mesh, axis: int) -> NamedSharding:
    """Cut over the devices along the array axis given, whole along the others."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "data"))


def within(mesh: Mesh, function: Callable[..., _T]) -> Callable[..., _T]:
    """The same function, but what is traced in it can look up which devices share a batch out, as convolutions do."""

    def traced(*arguments: Any) -> _T:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def check_divides(mesh: Mesh, name: str, batch_size: int, parts: int = 1) -> None:
    """Raises ValueError unless the devices of the mesh divide each part of the batch.

    Args:
      mesh: the devices.
      name: of the setting, for the message.
      batch_size: images over all devices.
      parts: micro-batches that the batch is cut into.
    """
    unit = mesh.size * parts
    if batch_size % unit:
        parted = f" in each of {parts} micro-batches" if parts > 1 else ""
        # A run that goes on keeps its batch: it can have fewer devices only.
        fewer = max((count for count in range(1, mesh.size) if batch_size % (count * parts) == 0), default=0)
        raise ValueError(
            f"{name} is {batch_size}, which {mesh.size} devices{parted} do not divide; "
            f"use a multiple of {unit}, {batch_size // unit * unit or unit} for instance"
            + (f"; or {fewer} of the devices ({_chosen_by(mesh, fewer)})" if fewer and jax.process_count() == 1 else "")
        )


def _chosen_by(mesh: Mesh, number: int) -> str:
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return f"JAX_NUM_CPU_DEVICES={number}" if on_cpu else "CUDA_VISIBLE_DEVICES"


def dividing(mesh: Mesh, batch_size: int) -> Mesh:
    """As many of a process's devices as divide a batch; of several processes all of them, in a multiple of batches."""
    if jax.process_count() > 1:
        return mesh
    return make_mesh(list(mesh.devices.flat[: math.gcd(mesh.size, batch_size)]))


def from_process(sharding: NamedSharding, rows: np.ndarray) -> jax.Array:
    """The global array of which this process holds the rows given (all of them, where there is one process)."""
    return jax.make_array_from_process_local_data(sharding, rows)


def described(mesh: Mesh) -> str:
    """Number and kind of a mesh's devices."""
    return f"{mesh.size} x {mesh.devices.flat[0].device_kind}"


def of_processes() -> str:
    """How the devices are spread over the processes, for the line at the start; empty of one process."""
    return f", {len(jax.local_devices())} in each of {jax.process_count()} processes" if jax.process_count() > 1 else ""
