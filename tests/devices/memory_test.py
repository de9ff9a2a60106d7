"""What devices have left, and what a program takes of it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.devices import memory, sharding

MIB = 2**20


def _mesh(*stats: dict | None):
    """GPUs that say this of their memory; the last one is another process's."""
    own = [SimpleNamespace(platform="gpu", process_index=0, memory_stats=lambda said=said: said) for said in stats]
    other = SimpleNamespace(platform="gpu", process_index=1)
    return SimpleNamespace(devices=np.array([*own, other], object))


@pytest.mark.parametrize(
    ("stats", "available"),
    [
        ([{"bytes_limit": 80 * MIB}], 80 * MIB),
        ([{"bytes_limit": 80 * MIB, "bytes_in_use": 5 * MIB}, {"bytes_limit": 70 * MIB}], 70 * MIB),
        ([None], None),
        ([{"bytes_in_use": 1}], None),
    ],
)
def test_the_fullest_device_counts(stats, available):
    assert memory.available(_mesh(*stats)) == available


def test_cpu_devices_share_what_the_machine_has_left(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 800 * MIB + 7)
    devices = jax.devices("cpu")
    assert memory.available(sharding.make_mesh(devices[:8])) == 100 * MIB
    monkeypatch.setattr(memory.together, "lowest", lambda value: value // 2)  # another process has less
    assert memory.available(sharding.make_mesh(devices[:1])) == 400 * MIB


def test_what_is_given_back_in_an_arguments_place_counts_once():
    x = jax.ShapeDtypeStruct((MIB,), jnp.float32)
    for donated, outputs in ((), 4 * MIB), ((0,), 0):
        found = memory.of_program(jax.jit(lambda x: x + 1, donate_argnums=donated).lower(x).compile())
        assert (found.arguments, found.outputs) == (4 * MIB, outputs)
        assert found.peak == sum(found)
