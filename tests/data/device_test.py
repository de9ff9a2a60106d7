"""Resident images on the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import data
from care_jax.data import Examples
from tests.data.image_bytes import Encoded


@pytest.fixture
def examples():
    return Examples(np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3))


def test_rows_as_floats(examples):
    images = data.put_resident(examples)
    assert (images.rows.dtype, images.rows.shape) == (jnp.uint8, (5, 2 * 3 * 3))
    assert (len(images), images.shape) == (5, (2, 3, 3))
    batch = jax.jit(data.take)(images, jnp.array([4, 0, 4], jnp.int32))
    assert batch.dtype == jnp.float32
    np.testing.assert_allclose(batch, examples.images[[4, 0, 4]] / 255, rtol=1e-6)


def test_one_copy_a_device(examples):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    images = data.put_resident(examples, replicated)
    assert len(images.rows.addressable_shards) == 8
    assert images.rows.is_fully_replicated
    indices = jax.device_put(np.arange(8, dtype=np.int32) % 5, jax.sharding.NamedSharding(mesh, jax.P("data")))
    batch = jax.jit(data.take)(images, indices)
    np.testing.assert_allclose(batch, examples.images[np.arange(8) % 5] / 255, rtol=1e-6)


def test_clouds_stay_as_they_are():
    clouds = np.random.default_rng(0).normal(scale=300, size=(5, 7, 4)).astype(np.float32)
    clouds[..., 3] = 1
    clouds[1, 4:] = 0
    resident = data.put_resident(Examples(clouds))
    assert (resident.rows.dtype, resident.rows.shape, resident.shape) == (jnp.float32, (5, 28), (7, 4))
    np.testing.assert_array_equal(jax.jit(data.take)(resident, jnp.array([4, 1, 4], jnp.int32)), clouds[[4, 1, 4]])


def test_encoded_examples_have_no_pixels():
    with pytest.raises(ValueError, match="resident=True"):
        data.put_resident(Examples(Encoded([b""])))
