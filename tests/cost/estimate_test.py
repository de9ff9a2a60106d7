"""Figures of compiled programs, on the CPU and for a TPU that is not there; a whole configuration for a pod's slice."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from care_jax.cost import hardware, report, topologies
from care_jax.cost.estimate import estimate, figures, floor, needed_memory, reason
from care_jax.cost.hardware import Hardware
from care_jax.devices import sharding
from care_jax.experiment import build, stand_in

V5E = hardware.of_kind("TPU v5 lite")
needs_libtpu = pytest.mark.skipif(topologies.find_spec("libtpu") is None, reason="libtpu is for x86-64 Linux")


def _mesh(topology: str):
    topologies.prepare(topology)
    return sharding.make_mesh(topologies.devices(topology))


def _compile(mesh, function, *arguments, **options):
    """Arguments: (shape, type, axes)."""
    structs = [jax.ShapeDtypeStruct(s, d, sharding=NamedSharding(mesh, PartitionSpec(*p))) for s, d, p in arguments]
    return jax.jit(function, **options).lower(*structs).compile()


MIB, ROWS, WIDTH = 2**20, 4096, 1024
PRODUCT = 2 * ROWS * WIDTH * WIDTH


def _scan(x, w):
    return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), jnp.sum(x)), x, length=6)


@pytest.mark.parametrize("topology", ["cpu:4", pytest.param("v5e:2x2", marks=[needs_libtpu, pytest.mark.slow])])
def test_each_device_does_its_share_of_a_loop(topology):
    mesh = _mesh(topology)
    compiled = _compile(mesh, _scan, ((ROWS, WIDTH), jnp.float32, ("data",)), ((WIDTH, WIDTH), jnp.float32, ()))
    found = figures(compiled, V5E, images_a_device=ROWS / 4, needed=6 * PRODUCT / 4)
    assert found["operations"]["total"] == found["operations"]["needed"] == 6 * PRODUCT / 4
    assert found["instructions_in_loops_of_unknown_length"] == 0
    assert found["memory"]["arguments"] == 4 * MIB + 4 * MIB  # a quarter of the rows, all of w
    assert found["memory"]["peak"] == sum(found["memory"][part] for part in _PARTS)
    assert {row["kind"] for row in found["collectives"]} <= {"all-reduce"}
    assert all(row["type"] == "f32" for row in found["collectives"])
    assert found["warnings"] == []
    limit = found["floor"]
    assert limit["seconds_by_operations"] == pytest.approx(6 * PRODUCT / 4 / 197e12)
    assert limit["seconds"] == max(limit["seconds_by_operations"], limit["seconds_by_bytes"])
    assert limit["images_per_second_per_device"] == pytest.approx(ROWS / 4 / limit["seconds"])


_PARTS = ("arguments", "outputs", "temporaries", "program")


@pytest.mark.parametrize("donated", [False, True])
def test_memory_is_all_that_is_held_at_once_and_what_is_donated_counts_once(donated):
    """Temporaries too, which XLA's own peak leaves out for CPUs."""
    compiled = _compile(
        _mesh("cpu:1"),
        lambda x: jnp.sin(x @ x) @ x,
        ((1024, 1024), jnp.float32, ()),
        donate_argnums=(0,) if donated else (),
    )
    memory = figures(compiled, V5E, images_a_device=1, needed=0)["memory"]
    assert memory["arguments"] == 4 * MIB and memory["outputs"] == (0 if donated else 4 * MIB)
    assert memory["temporaries"] >= 4 * MIB
    assert memory["peak"] == sum(memory[part] for part in _PARTS)
    assert memory["available"] == V5E.memory


def test_the_floor_is_the_slower_of_the_two():
    device = Hardware({"": 100.0}, 10.0, None)
    found = floor({"f32": 100}, 50, device, images_a_device=20, needed=80)
    assert found == {
        "seconds_by_operations": 1.0,
        "seconds_by_bytes": 5.0,
        "seconds": 5.0,
        "images_per_second_per_device": 4.0,
        "share_of_peak": pytest.approx(80 / 100 / 5.0),
    }
    unknown = floor({"f32": 100}, 50, Hardware(None, 10.0, None), images_a_device=20, needed=80)
    assert unknown["seconds_by_bytes"] == 5.0
    assert [unknown[name] for name in ("seconds", "images_per_second_per_device", "share_of_peak")] == [None] * 3


OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (18.50G) exceeds "
    "available HBM (15.75G)."
)


def test_reasons_are_short_and_name_the_memory():
    assert reason(f"{OUT_OF_MEMORY}\n\nsecond\nthird\n") == f"{OUT_OF_MEMORY} second"
    assert len(reason("x" * 5000)) == 400 and reason("x" * 5000).endswith("x...") and reason("") == "no reason given"
    assert needed_memory(OUT_OF_MEMORY) == round(18.5 * 2**30)
    assert needed_memory("RESOURCE_EXHAUSTED: scoped vmem") is None


def test_a_step_that_does_not_compile_is_an_answer(tiny_config, small_encoder, monkeypatch):
    class Refused:
        def as_text(self, dialect):
            raise AssertionError("nothing is read of it")

        def compile(self):
            raise jax.errors.JaxRuntimeError(OUT_OF_MEMORY)

    monkeypatch.setattr("care_jax.cost.estimate.lower", lambda experiment: Refused())
    config = tiny_config()
    found = estimate(config, _mesh("cpu:2"), stand_in.images(config), V5E)
    assert not found["compiles"] and found["reason"] == OUT_OF_MEMORY
    text = report.text({"topology": "cpu:2", **found})
    assert "\ncompiles      no, in 0 s\nreason        RESOURCE_EXHAUSTED: Ran out" in text


@pytest.mark.slow
@pytest.mark.parametrize("again", [{"train__micro_batches": 2}, {"model__remat": True}])
def test_what_is_computed_again_is_not_needed(tiny_config, small_encoder, monkeypatch, again):
    """Gradients by parts embed twice; so does remat."""
    monkeypatch.setattr(build, "make_encoder", lambda config: small_encoder())
    mesh = _mesh("cpu:2")
    plain, other = (
        estimate(config, mesh, stand_in.images(config), V5E)["operations"]
        for config in (tiny_config(), tiny_config(**again))
    )
    assert plain["needed"] == other["needed"] > 0
    assert other["total"] > plain["total"]


@needs_libtpu
@pytest.mark.slow
def test_a_configuration_compiles_for_a_tpu_on_any_machine(tiny_config, tmp_path):
    """`configs/digits.py`, narrow, on four chips of a v5e: every figure is there, in the text too."""
    config = tiny_config(equivariance__num_groups=8)
    config.model.dtype = "bfloat16"
    found = estimate(config, _mesh("v5e:2x2"), stand_in.images(config), V5E, effort=-1.0)
    assert found["compiles"] and found["devices"] == 4 and found["device"] == "TPU v5 lite"
    memory = found["memory"]
    assert memory["peak"] < 2**28 and memory["arguments"] > 1_438 * 16 * 16 * 3
    assert found["operations"]["total"] == pytest.approx(found["operations"]["needed"], rel=0.1)
    assert found["operations"]["not_counted"] == {}
    assert found["instructions_in_loops_of_unknown_length"] == 0
    assert {"all-reduce", "all-gather"} <= {row["kind"] for row in found["collectives"]}
    limit = found["floor"]
    assert 0 < limit["seconds_by_operations"] < limit["seconds_by_bytes"] == limit["seconds"] < 1e-2
    assert 0 < limit["share_of_peak"] < 1 and limit["images_per_second_per_device"] > 0
    assert len(found["largest"]) == 10
    assert not any(line.startswith(("float64", "host callbacks", "resident")) for line in found["warnings"])
    # Of bfloat16 networks too devices add gradients up in float32: of all kernels together, once a step; and batch
    # norm's sums once each way.
    assert {row["type"] for row in found["collectives"]} == {"f32"}
    assert sum(row["number"] for row in found["collectives"] if row["kind"] == "all-reduce") <= 24
    text = report.text({"topology": "v5e:2x2", **found})
    names = ["topology", "step", "data", "compiles", "memory", "operations", "bytes", "collectives", "floor", "at"]
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")][: len(names)] == names
    assert "effort -1: the launched program is faster than these figures" in text
