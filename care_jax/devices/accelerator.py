"""An accelerator of this machine that JAX does not use, and what to install for it."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import jax

# The extra for an NVIDIA driver of at least this version, newest first.
_EXTRAS = ((580, "cuda13"), (525, "cuda12"))
_NVIDIA = ("dev/nvidia0", "dev/nvidiactl", "proc/driver/nvidia/version")  # in containers, some of them
# Of PCI: Google's number, and those of its TPUs (v3 to 7x).
_GOOGLE = "0x1ae0"
_TPUS = {"0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"}


def unused(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> str:
    """A line for who trains on a CPU beside an accelerator without having asked for it; empty where all is well.

    Args:
      environment: JAX_PLATFORMS, or CUDA_VISIBLE_DEVICES without a device, is a choice.
      root: of the file system.
    """
    if jax.default_backend() != "cpu" or environment.get("JAX_PLATFORMS"):
        return ""
    if any((root / path).exists() for path in _NVIDIA) and environment.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
        return f"an NVIDIA GPU is here, but this JAX computes on CPUs: {_for_driver(_driver(root))}"
    if has_tpu(root):
        return "a TPU is here, but this JAX computes on CPUs: pip install 'care_jax[tpu]'"
    return ""


def _driver(root: Path) -> str:
    """Its version; empty where the system does not tell."""
    with suppress(OSError):
        text = (root / "proc/driver/nvidia/version").read_text(errors="replace")
        if found := re.search(r"NVRM version:.*?\s(\d+\.\d[\d.]*)\s", text):
            return found[1]
    return ""


def _for_driver(version: str) -> str:
    if not version:
        return f"pip install 'care_jax[cuda13]', or [cuda12] where its driver is older than {_EXTRAS[0][0]}"
    for least, extra in _EXTRAS:
        if int(version.partition(".")[0]) >= least:
            return f"pip install 'care_jax[{extra}]', for its driver {version}"
    return f"its driver {version} is too old, JAX needs {_EXTRAS[-1][0]} or newer, and then the extra {_EXTRAS[-1][1]}"


def has_tpu(root: Path = Path("/")) -> bool:
    """Whether this machine is a TPU's host."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with suppress(OSError):
            if (device / "vendor").read_text().strip() == _GOOGLE and (device / "device").read_text().strip() in _TPUS:
                return True
    return False
