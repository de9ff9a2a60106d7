"""The table of devices is found by the names that JAX gives them."""

from types import SimpleNamespace

import jax
import pytest

from care_jax.cost import hardware


@pytest.mark.parametrize(
    ("kind", "teraflops", "memory"),
    [
        ("TPU v5 lite", 197, 15.75),  # not a v5, whose name it begins with
        ("TPU v5", 459, 95.74),
        ("TPU v6 lite", 918, 31.25),
        ("TPU7x", 1153.5, 94.75),
        ("NVIDIA H100 80GB HBM3", 495, 74.5),
    ],
)
def test_devices_by_kind(kind, teraflops, memory):
    device = hardware.of_kind(kind)
    assert device.operations[""] == teraflops * 1e12
    assert device.memory == pytest.approx(memory * hardware.GIB, rel=1e-3)
    assert device.bandwidth > 1e11


def test_float32_takes_longer_where_its_peak_is_lower():
    gpu, tpu = hardware.of_kind("NVIDIA H100 PCIe"), hardware.of_kind("TPU v4")
    assert gpu.seconds({"bf16": 756e12, "f32": 378e12}) == pytest.approx(2.0)
    assert tpu.seconds({"bf16": 275e12, "f32": 275e12}) == pytest.approx(2.0)


def test_nothing_is_made_up_of_a_device_that_is_not_there():
    assert hardware.of_kind("TPU v99") == (None, None, None, 0)
    assert hardware.of_kind("TPU v99").seconds({"f32": 1}) is None


def test_cpus_share_the_memory_of_the_machine():
    one, eight = (hardware.of_device(jax.devices("cpu")[0], count) for count in (1, 8))
    assert one.memory // 8 == eight.memory and one.memory > 2**28
    assert one.cache // 8 == eight.cache > 0
    assert one.operations is None and one.bandwidth is None


def test_the_cache_of_a_cpu_is_its_largest(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "_CACHES", tmp_path)
    for index, size in enumerate(("48K", "2048K", "30M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert hardware.of_device(jax.devices("cpu")[0], 1).cache == 30 * 2**20
    monkeypatch.setattr(hardware, "_CACHES", tmp_path / "none")
    assert hardware.of_device(jax.devices("cpu")[0], 1).cache == 32 * 2**20


@pytest.mark.parametrize(("runtime", "memory"), [("compile_only_runtime", int(80e9)), ("tfrt", 60)])
def test_only_a_gpu_that_is_there_is_asked_for_its_memory(runtime, memory):
    def stats():
        if runtime == "compile_only_runtime":
            raise jax.errors.JaxRuntimeError("MemoryStats is only supported for addressable PjRt devices")
        return {"bytes_limit": 60}

    described = SimpleNamespace(
        platform="gpu",
        device_kind="NVIDIA H100 80GB HBM3",
        client=SimpleNamespace(runtime_type=runtime),
        memory_stats=stats,
    )
    assert hardware.of_device(described, 8).memory == memory
