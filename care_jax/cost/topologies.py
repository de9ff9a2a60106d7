"""From the name of a topology to devices that a step can be compiled for, whether or not they are there.

prepare("v5e:16x16")             # before JAX is imported
mesh = make_mesh(devices("v5e:16x16"))
"""

import math
import os
import re
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from care_jax.cost.gpus import GPUS, GPUS_A_HOST
from care_jax.errors import UserError

if TYPE_CHECKING:
    import jax

# As it is asked for -> as libtpu calls it, and what else it has to be told.
_TPUS: dict[str, tuple[str, dict[str, Any]]] = {
    "v2": ("v2", {}),
    "v3": ("v3", {}),
    "v4": ("v4", {"chip_config_name": "megacore"}),  # one device a chip, as on a pod
    "v5e": ("v5e", {}),
    "v5p": ("v5p", {}),
    "v6e": ("v6e", {}),
    "7x": ("tpu7x", {}),
}
_CUBES = ("v4", "v5p", "7x")  # whose chips have neighbours in three directions
# Without these libtpu looks for the TPU of a virtual machine of Google's, and for who else uses it.
_WITHOUT_A_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
EXAMPLES = "cpu, cpu:8, gpu, h100:8, v5e:16x16, v4:4x4x8, v5p:4x4x4, v6e:8x8 or 7x:2x2x1"
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")  # XLA's compiler for GPUs, either of them


class TopologyError(UserError, ValueError):
    """A topology that does not exist, or that nothing here can compile for."""


def prepare(topology: str) -> None:
    """Sets what has to be set before JAX is imported.

    Args:
      topology: "cpu" (this machine's cores, as a run shares them out), "cpu:8" (as many CPU devices, which stand in
        for any others), "gpu" (this machine's), "h100:8" (hosts of eight), or a TPU's version and its chips,
        "v5e:16x16".

    Raises:
      TopologyError: one line, for a name that can't be one, or where what compiles for it is not installed.
    """
    kind, _, layout = topology.partition(":")
    if kind in ("cpu", "gpu", *GPUS):
        if layout and not re.fullmatch(r"[1-9]\d{0,3}", layout):
            raise TopologyError(f"--topology={topology}: give a number of devices, {kind}:8 for instance")
        if kind == "gpu":
            os.environ.pop("JAX_PLATFORMS", None)  # JAX finds it by itself, unless it is told to take something else
            return
        os.environ["JAX_PLATFORMS"] = "cpu"
        if kind in GPUS:
            _prepare_for_gpus(topology)
        elif layout and "jax" not in sys.modules:
            flags = os.environ.get("XLA_FLAGS", "")
            os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={layout}"
            os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # which would go before it
        return
    if kind not in _TPUS or not re.fullmatch(r"\d+x\d+(x\d+)?", layout):
        axes = "4x4x8" if kind in _CUBES else "16x16"
        known = f"give the chips along each axis, {kind}:{axes}" if kind in _TPUS else f"give {EXAMPLES}"
        raise TopologyError(f"--topology={topology}: {known}")
    if find_spec("libtpu") is None:
        raise TopologyError(
            f"--topology={topology} needs the compiler for TPUs, which runs without one (on x86-64 Linux): "
            "pip install 'care_jax[cost]'"
        )
    os.environ.update({**_WITHOUT_A_TPU, "JAX_PLATFORMS": "cpu"})


def _prepare_for_gpus(topology: str) -> None:
    if not any(map(find_spec, _PLUGINS)):
        raise TopologyError(
            f"--topology={topology} needs XLA's compiler for GPUs, which runs without one (on Linux): "
            f"pip install jax-cuda12-plugin=={metadata.version('jaxlib')}"
        )
    count = int(topology.partition(":")[2] or 1)
    if count > GPUS_A_HOST and count % GPUS_A_HOST:
        raise TopologyError(f"--topology={topology}: give at most {GPUS_A_HOST} devices, or hosts of {GPUS_A_HOST}")
    if "jax" not in sys.modules:  # there is nothing to time the kernels on
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # of CUDA's libraries none need be there
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # nor a driver, which would be said


def devices(topology: str) -> list["jax.Device"]:
    """The devices of a topology that was prepared.

    Raises:
      TopologyError: one line, for chips that can't be put together so, or a device that is not there.
    """
    import jax

    kind, _, layout = topology.partition(":")
    if kind in ("cpu", "gpu"):
        try:
            found = jax.devices(kind)
        except RuntimeError as error:
            raise TopologyError(f"--topology={topology}: JAX finds no {kind.upper()} in this machine") from error
        count = int(layout or len(found))
        if count > len(found):
            raise TopologyError(f"--topology={topology}: JAX finds {len(found)} in this machine")
        return found[:count]
    if kind in GPUS:
        count = int(layout or 1)
        shape = f"1x{-(-count // GPUS_A_HOST)}x{min(count, GPUS_A_HOST)}"  # slices, hosts, devices of each
        return _described(topology, "cuda", kind, target_config=GPUS[kind].description(), topology=shape)
    name, options = _TPUS[kind]
    chips = [int(side) for side in layout.split("x")]
    if math.prod(chips) < 4 or any(side % 2 for side in chips[:2]):  # a host has 2 x 2 chips unless it is told
        options = {**options, "chips_per_host_bounds": [*(2 - side % 2 for side in chips[:2]), 1]}
    return _described(topology, "tpu", f"{name}:{layout}", **options)


def _described(asked: str, platform: str, name: str, **options: Any) -> list["jax.Device"]:
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform=platform, topology_name=name, **options).devices)
    except Exception as error:  # of several kinds, by version
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TopologyError(f"--topology={asked}: the compiler refuses it: {reason}") from error
