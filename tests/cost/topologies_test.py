"""Names of topologies become devices; what can't be had is one line, before JAX is imported."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from care_jax.cost import topologies
from care_jax.cost.gpus import GPUS
from care_jax.cost.topologies import TopologyError

WITHOUT_LIBTPU = topologies.find_spec("libtpu") is None


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """As it was before, after each test."""
    unset = ("JAX_PLATFORMS", "XLA_FLAGS", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "TF_CPP_MIN_LOG_LEVEL")
    for name in (*topologies._WITHOUT_A_TPU, *unset):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return monkeypatch


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("", "give cpu, cpu:8, gpu, h100:8, v5e:16x16"),
        ("v5e", "give the chips along each axis, v5e:16x16"),
        ("v4:16", "give the chips along each axis, v4:4x4x8"),
        ("v5e:2x", "give the chips along each axis"),
        ("v99:2x2", "give cpu, cpu:8"),
        ("cpu:0", "give a number of devices, cpu:8"),
        ("gpu:two", "give a number of devices, gpu:8"),
        ("h100:x", "give a number of devices, h100:8"),
        ("A100", "give cpu, cpu:8, gpu, h100:8"),
    ],
)
def test_a_name_that_can_not_be_one(topology, said):
    with pytest.raises(TopologyError, match=said) as caught:
        topologies.prepare(topology)
    assert f"--topology={topology}" in str(caught.value) and "\n" not in str(caught.value)


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(topologies, "find_spec", lambda name: None)
    with pytest.raises(TopologyError, match=r"pip install 'care_jax\[cost\]'"):
        topologies.prepare("v5e:2x2")
    with pytest.raises(TopologyError, match=r"pip install jax-cuda12-plugin==[\d.]+$"):
        topologies.prepare("h100:8")


def test_gpus_come_in_whole_hosts(monkeypatch):
    monkeypatch.setattr(topologies, "find_spec", lambda name: True)
    with pytest.raises(TopologyError, match="--topology=h100:12: give at most 8 devices, or hosts of 8"):
        topologies.prepare("h100:12")
    topologies.prepare("h100:16")


@pytest.mark.skipif(not any(map(topologies.find_spec, topologies._PLUGINS)), reason="needs JAX's CUDA plugin")
@pytest.mark.parametrize(("topology", "count"), [("h100", 1), ("h100:8", 8), ("h200:16", 16)])
def test_gpus_that_are_not_there(topology, count):
    topologies.prepare(topology)
    found = topologies.devices(topology)
    assert {device.device_kind for device in found} == {GPUS[topology.partition(":")[0]].name}
    assert len(found) == count


@pytest.mark.skipif(WITHOUT_LIBTPU, reason="libtpu is for x86-64 Linux")
@pytest.mark.parametrize(
    ("topology", "kind", "count"),
    [
        ("v5e:16x16", "TPU v5 lite", 256),
        ("v5e:1x1", "TPU v5 lite", 1),
        ("v5e:2x1", "TPU v5 lite", 2),
        ("v4:4x4x8", "TPU v4", 128),  # one device a chip
        ("v5p:4x4x4", "TPU v5", 64),
        ("v6e:8x8", "TPU v6 lite", 64),
        ("7x:2x2x1", "TPU7x", 8),  # two devices a chip
    ],
)
def test_tpus_that_are_not_there(topology, kind, count):
    topologies.prepare(topology)
    found = topologies.devices(topology)
    assert {device.device_kind for device in found} == {kind} and len(found) == count


@pytest.mark.skipif(WITHOUT_LIBTPU, reason="libtpu is for x86-64 Linux")
def test_chips_that_can_not_be_put_together_so():
    topologies.prepare("v5e:0x0")
    with pytest.raises(TopologyError, match="--topology=v5e:0x0: the compiler refuses it: "):
        topologies.devices("v5e:0x0")


@pytest.mark.slow
def test_a_number_that_is_asked_for_goes_before_that_of_the_environment():
    script = "from care_jax.cost import topologies as t; t.prepare('cpu:3'); print(len(t.devices('cpu:3')))"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "XLA_FLAGS": ""}
    made = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert made.stdout == "3\n", made.stderr


def test_devices_of_this_machine():
    topologies.prepare("cpu:4")
    assert [device.platform for device in topologies.devices("cpu:4")] == ["cpu"] * 4
    assert len(topologies.devices("cpu")) == jax.device_count()
    with pytest.raises(TopologyError, match="JAX finds 8 in this machine"):
        topologies.devices("cpu:9")
    with pytest.raises(TopologyError, match="JAX finds no GPU"):
        topologies.devices("gpu")


@pytest.mark.slow
def test_as_many_cpus_as_are_asked_for_in_a_program_of_its_own():
    """Nothing that comes before the devices are prepared may import JAX."""
    program = """
import sys
import care_jax.command_line, care_jax.extras, care_jax.stops, care_jax.storage
from care_jax.cost import topologies
assert "jax" not in sys.modules
topologies.prepare("cpu:3")
print(len(topologies.devices("cpu:3")))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert done.stdout == "3\n", done.stderr
