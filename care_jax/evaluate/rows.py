"""Vectors of a set too large for one device or one host: every device holds a share of the rows, and no one all."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from care_jax.devices import sharding

_ENTRIES_AT_ONCE = 2**24  # that leave the devices: 64 MiB in float32


@dataclasses.dataclass(frozen=True)
class Rows:
    """Vectors of n examples, cut over the devices.

    Attributes:
      array: [N, w], N >= n: each device, and so each process, holds its share of these rows. Which examples a device
        has is open; it has them in their order.
      places: [n] int32, which row is that of an example; rows that are no example's hold anything.
    """

    array: jax.Array
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        on_devices = self.array.sharding
        assert isinstance(on_devices, NamedSharding) and isinstance(on_devices.mesh, Mesh)
        return on_devices.mesh

    def examples(self) -> np.ndarray:
        """[N] int32, which example's a row is; -1 for no one's."""
        examples = np.full(len(self.array), -1, np.int32)
        examples[self.places] = np.arange(len(self), dtype=np.int32)
        return examples

    def finite(self) -> np.ndarray:
        """[n] bool, on every process: whether all w numbers of an example are finite."""
        return np.asarray(_finite(self.array, mesh=self.mesh))[self.places]

    def numpy(self) -> np.ndarray:
        """[n, w] in the order of the examples, on every process, all of which must ask: they come in pieces."""
        devices, width = self.mesh.size, self.array.shape[1]
        examples = self.examples().reshape(devices, -1)
        size = min(examples.shape[1], max(1, _ENTRIES_AT_ONCE // (devices * width)))
        rows = np.empty((len(self), width), self.array.dtype)
        for start in range(0, examples.shape[1], size):
            start = min(start, examples.shape[1] - size)
            piece = np.asarray(_piece(self.array, start, size=size, mesh=self.mesh))
            found = examples[:, start : start + size]
            rows[found[found >= 0]] = piece[found >= 0]
        return rows


def place(rows: np.ndarray, mesh: Mesh) -> Rows:
    """Rows [n, w] that every process holds, cut over the devices in their order; zeros fill the last share."""
    padded = np.pad(rows, ((0, -len(rows) % mesh.size), (0, 0)))
    array = jax.make_array_from_callback(padded.shape, sharding.along_axis(mesh, 0), lambda share: padded[share])
    return Rows(array, np.arange(len(rows), dtype=np.int32))


class Gathering:
    """Rows that come in batches, each cut over the devices. They stay there, and are there once.

    Args:
      mesh: the devices.
      num_batches: how many there will be, all of one size.
    """

    def __init__(self, mesh: Mesh, num_batches: int):
        self._mesh = mesh
        self._num_batches = num_batches
        self._count = 0
        self._array: jax.Array | None = None

    def add(self, batch: jax.Array) -> None:
        """The next batch, [b, w]."""
        if self._array is None:
            shape = self._num_batches * len(batch), *batch.shape[1:]
            self._array = jnp.zeros(shape, batch.dtype, device=sharding.along_axis(self._mesh, 0))
        self._array = _write(self._array, batch, self._count, mesh=self._mesh)
        self._count += 1

    def rows(self, kept: np.ndarray) -> Rows:
        """The rows with these numbers, [n], counted through all batches."""
        assert self._array is not None and self._count == self._num_batches
        batch_size = len(self._array) // self._num_batches
        share = batch_size // self._mesh.size  # of a batch, on one device
        batch, (device, row) = kept // batch_size, np.divmod(kept % batch_size, share)
        return Rows(self._array, (device * self._num_batches * share + batch * share + row).astype(np.int32))


@partial(jax.jit, donate_argnums=0, static_argnames="mesh")
def _write(array: jax.Array, batch: jax.Array, index: int, *, mesh: Mesh) -> jax.Array:
    """Each device's rows of the batch behind those that it has."""

    def write(array: jax.Array, batch: jax.Array, index: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(array, batch, index * len(batch), 0)

    return jax.shard_map(write, mesh=mesh, in_specs=(P("data"), P("data"), P()), out_specs=P("data"))(
        array, batch, jnp.asarray(index)
    )


@partial(jax.jit, static_argnames="mesh")
def _finite(array: jax.Array, *, mesh: Mesh) -> jax.Array:
    return jax.lax.with_sharding_constraint(jnp.isfinite(array).all(axis=1), sharding.replicated(mesh))


@partial(jax.jit, static_argnames=("size", "mesh"))
def _piece(array: jax.Array, start: int, *, size: int, mesh: Mesh) -> jax.Array:
    """[D, size, w]: as many rows of each device's, on every device."""

    def cut(array: jax.Array, start: jax.Array) -> jax.Array:
        # Cut, then sent: left to the compiler, all of the array would be.
        return jax.lax.all_gather(jax.lax.dynamic_slice_in_dim(array, start, size), "data")

    return jax.shard_map(cut, mesh=mesh, in_specs=(P("data"), P()), out_specs=P(), check_vma=False)(
        array, jnp.asarray(start)
    )
