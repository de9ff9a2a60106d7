"""Rows over the devices: every example's where `places` says, there once, on the host only in pieces."""

import jax
import numpy as np
import pytest

from care_jax.devices import sharding
from care_jax.devices.collectives import collectives
from care_jax.evaluate import rows
from care_jax.evaluate.rows import Gathering, place


def made_of_batches(num_devices: int, kept: np.ndarray):
    """Three batches of 16 rows, as an embedder makes them, and the rows themselves."""
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    batches = np.random.default_rng(0).standard_normal((3, 16, 5)).astype(np.float32)
    gathering = Gathering(mesh, 3)
    for batch in batches:
        gathering.add(jax.device_put(batch, sharding.along_axis(mesh, 0)))
    return gathering.rows(kept), batches.reshape(48, 5)[kept]


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_rows_are_the_examples_in_their_order(num_devices, monkeypatch):
    kept = np.delete(np.arange(45), [0, 17, 30])  # the last batch is filled up, and three could not be read
    made, expected = made_of_batches(num_devices, kept)
    assert len(made) == len(kept) and made.mesh.size == num_devices
    np.testing.assert_array_equal(np.asarray(made.array)[made.places], expected)
    np.testing.assert_array_equal(made.numpy(), expected)
    monkeypatch.setattr(rows, "_ENTRIES_AT_ONCE", 5 * num_devices * 4)  # 4 rows a device: the last piece begins early
    np.testing.assert_array_equal(made.numpy(), expected)
    examples = made.examples()
    np.testing.assert_array_equal(examples[made.places], np.arange(len(kept)))
    assert (examples == -1).sum() == 48 - len(kept)
    placed = place(expected, made.mesh)
    np.testing.assert_array_equal(placed.numpy(), expected)
    assert {len(shard.data) for shard in placed.array.addressable_shards} == {-(-len(kept) // num_devices)}


def test_which_examples_are_finite():
    made, expected = made_of_batches(8, np.arange(48))
    expected[[3, 20], 2] = np.nan, np.inf
    np.testing.assert_array_equal(place(expected, made.mesh).finite(), ~np.isin(np.arange(48), [3, 20]))


def test_a_batch_is_written_where_it_stays_and_only_pieces_are_sent():
    """At ImageNet's size a device of eight has 1.25 GiB of features, and nothing beside them but a batch or a piece."""
    mesh = sharding.make_mesh()
    along = sharding.along_axis(mesh, 0)
    array, batch = (jax.ShapeDtypeStruct((n, 2048), np.float32, sharding=along) for n in (1_281_200, 400))
    share = 1_281_200 // 8 * 2048 * 4
    written = rows._write.lower(array, batch, 3, mesh=mesh).compile()
    memory = written.memory_analysis()
    assert memory.alias_size_in_bytes == memory.output_size_in_bytes == share and memory.temp_size_in_bytes < 1e6
    assert not collectives(written.as_text())
    piece = rows._piece.lower(array, 3, size=1024, mesh=mesh).compile()
    assert piece.memory_analysis().temp_size_in_bytes < 1e8
    assert [[str(array) for array in one.arrays] for one in collectives(piece.as_text())] == [["f32[8,1024,2048]"]]
