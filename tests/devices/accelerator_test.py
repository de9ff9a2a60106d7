"""Which extra an accelerator needs that JAX does not use: on file systems that are made for it."""

import pytest

from care_jax.devices import accelerator

OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder)\nGCC version: 12.3.0\n"
)
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sat Aug 19 01:15:15 UTC 2023\nGCC version: 9.4.0\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OPEN.format("580.65.06"), "pip install 'care_jax[cuda13]', for its driver 580.65.06"),
        (CLOSED.format("535.104.05"), "pip install 'care_jax[cuda12]', for its driver 535.104.05"),
        (OPEN.format("600.10"), "care_jax[cuda13]"),
        (CLOSED.format("470.82.01"), "its driver 470.82.01 is too old, JAX needs 525 or newer"),
        ("", "pip install 'care_jax[cuda13]', or [cuda12] where its driver is older than 580"),
    ],
)
def test_the_extra_for_a_gpu_follows_its_driver(tmp_path, text, told):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(text)
    line = accelerator.unused({}, tmp_path)
    assert line.startswith("an NVIDIA GPU is here, but this JAX computes on CPUs: ") and told in line


def test_a_tpu_is_known_by_its_number(tmp_path):
    """Google's network cards have the same vendor."""
    for name, device in (("0000:00:04.0", "0x0042"), ("0000:00:05.0", "0x0063")):
        assert accelerator.unused({}, tmp_path) == ""
        (tmp_path / "sys/bus/pci/devices" / name).mkdir(parents=True)
        (tmp_path / "sys/bus/pci/devices" / name / "vendor").write_text("0x1ae0\n")
        (tmp_path / "sys/bus/pci/devices" / name / "device").write_text(f"{device}\n")
    assert "a TPU is here" in accelerator.unused({}, tmp_path) and "[tpu]" in accelerator.unused({}, tmp_path)


@pytest.mark.parametrize(
    "chosen", [{"JAX_PLATFORMS": "cpu"}, {"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "-1"}]
)
def test_who_chose_the_cpu_is_left_alone_and_who_uses_the_gpu_too(tmp_path, monkeypatch, chosen):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    assert accelerator.unused(chosen, tmp_path) == ""
    assert accelerator.unused({}, tmp_path)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert accelerator.unused({}, tmp_path) == ""
