"""NVIDIA GPUs as XLA has to know them to compile for one that is not in the machine."""

from typing import NamedTuple

# XLA's GpuTargetConfigProto, as text. What differs between the two: name and memory. The versions are those that the
# compiler may count on; of cuDNN and CUDA nothing need be installed.
_HOPPER = """
gpu_device_info {{
  name: "{name}"
  device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability 9.0a"
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_core_limit: 2048
  threads_per_block_limit: 1024
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  device_address_bits: 64
  pcie_bandwidth: 34359738368
  ecc_enabled: true
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""


class Gpu(NamedTuple):
    """What tells GPUs of one generation apart.

    Attributes:
      name: as JAX calls it, `device_kind`.
      memory: bytes.
      bandwidth: bytes a second to and from it.
    """

    name: str
    memory: int
    bandwidth: int

    def description(self) -> str:
        """For `get_topology_desc(platform="cuda", target_config=...)`."""
        return _HOPPER.format(**self._asdict())


GPUS = {
    "h100": Gpu("NVIDIA H100 80GB HBM3", 84_942_979_072, 3_352_320_000_000),
    "h200": Gpu("NVIDIA H200", 150_754_820_096, 4_800_000_000_000),
}
GPUS_A_HOST = 8
