"""Where arrays live: one mesh axis, `data`; parameters on every device, batches cut over them."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices (or those given) with the one axis `data`.

    Auto axes let the compiler cut `[b, d] -> [g, b/g, d]` whether or not the groups fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def along_axis(mesh: Mesh, axis: int) -> NamedSharding:
    """Cut over the devices along the array axis given, whole along the others."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "data"))


def check_divides(mesh: Mesh, name: str, batch_size: int) -> None:
    """Raises ValueError unless the devices of the mesh divide the batch.

    Args:
      mesh: the devices.
      name: of the setting, for the message.
      batch_size: images over all devices.
    """
    if batch_size % mesh.size:
        raise ValueError(
            f"{name} is {batch_size}, which {mesh.size} devices do not divide; "
            f"use a multiple of {mesh.size}, {batch_size // mesh.size * mesh.size or mesh.size} for instance"
        )


def from_process(sharding: NamedSharding, rows: np.ndarray) -> jax.Array:
    """The global array of which this process holds the rows given (all of them, where there is one process)."""
    return jax.make_array_from_process_local_data(sharding, rows)
