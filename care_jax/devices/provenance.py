"""The programs that numbers come from: compared between the processes of a run, and with those that it began with."""

import hashlib
import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import jax

# Whose versions change what is computed, drawn, decoded or written.
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("pillow", "tensorflow", "tensorflow-cpu", "tensorflow-datasets"),
)
# What is set by JAX_* variables, and changes a program or its numbers.
_JAX_SETTINGS = (
    *("jax_platforms", "jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl"),
    *("jax_threefry_partitionable", "jax_numpy_dtype_promotion", "jax_debug_nans", "jax_disable_jit"),
)
_FLAG_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
# The number of devices is compared itself; how long they wait for one another changes nothing.
_OWN_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count", "--xla_cpu_collective_call")


def found() -> dict[str, str]:
    """What numbers come from beside settings and data, by name: versions, a digest of our sources, flags."""
    programs = {"care_jax": _sources(), "Python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            programs[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            programs[package] = "not installed"
    programs |= {name: str(getattr(jax.config, name, None)) for name in _JAX_SETTINGS}
    for variable in _FLAG_VARIABLES:
        flags = [flag for flag in os.environ.get(variable, "").split() if not flag.startswith(_OWN_FLAGS)]
        programs[variable] = " ".join(sorted(flags)) or "empty"
    return programs


def changed(saved: Mapping[str, str] | None) -> list[str]:
    """A part of a line for each program that is another than when a checkpoint was saved.

    Args:
      saved: what `found` gave then; None, of a checkpoint before it was kept, tells nothing.
    """
    if saved is None:
        return []
    return [f"{name} {saved[name]} -> {now}" for name, now in found().items() if saved.get(name, now) != now]


def _sources() -> str:
    """The version, and a digest of the files that it is told by: a checkout that was edited has the same version."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    try:
        version = metadata.version("care_jax")
    except metadata.PackageNotFoundError:
        version = "of a checkout"
    return f"{version} (sources {digest.hexdigest()[:12]})"
