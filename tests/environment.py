"""What the programs that tests start find in their environment."""

import os

# XLA's newer code generator for CPUs takes twice as long to compile as the one before it, which it still has.
COMPILES_FAST = "--xla_cpu_use_fusion_emitters=false"
# For `jax.jit(..., compiler_options=...)` where bits are compared: the newer one after all.
AS_USUAL = {"xla_cpu_use_fusion_emitters": True}


def on_cpus(count: int = 1, **variables: str) -> dict[str, str]:
    """This process's environment, with so many CPU devices."""
    flags = f"{COMPILES_FAST} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **variables}
