"""Peaks that are measured take the place of those that are not known; devices that share a machine share them."""

from care_jax.cost import measured
from care_jax.cost.hardware import Hardware


def test_devices_of_a_machine_share_what_it_reaches(monkeypatch):
    monkeypatch.setattr(
        measured, "measure_matmul", lambda dtype, size, repeats: {"float32": 8e10, "bfloat16": 4e11}[dtype]
    )
    monkeypatch.setattr(measured, "measure_copy", lambda num_bytes, repeats: 2e10)
    cpu = measured.hardware(Hardware(None, None, 77), on_cpu=True, count=8)
    assert cpu == Hardware({"": 1e10}, 2.5e9, 77)
    gpu = measured.hardware(Hardware({"": 1.0}, 1.0, 77), on_cpu=False, count=1)
    assert gpu == Hardware({"": 8e10, "bf16": 4e11}, 2e10, 77)


def test_a_small_product_and_a_small_copy_take_time():
    assert measured.measure_matmul("float32", 64, 2) > 0 and measured.measure_copy(2**16, 2) > 0
