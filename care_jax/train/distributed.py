"""Several processes, one run: how they find each other, agree, and end when one of them is lost."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import jax

from care_jax.errors import UserError

# Seconds without a sign of life after which a process counts as lost, and the others end.
HEARTBEAT_TIMEOUT = 60
# What collectives say when their peer is gone.
_SIGNS_OF_LOSS = ("Gloo", "Connection", "NCCL", "heartbeat", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination service")


class DistributedError(UserError, ValueError):
    """Processes that can't be brought together as asked."""


def start(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins this process to the others of its run; call it before anything else touches JAX's devices.

    With arguments, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment, these are used.
    Without, a SLURM step or an MPI run of several tasks and a Cloud TPU describe themselves. Otherwise the process is
    alone, and nothing happens.

    Args:
      coordinator_address: host:port of process 0, that all can reach.
      num_processes: of the run; 1 keeps the process alone whatever the environment says.
      process_id: of this one, from 0.

    Raises:
      DistributedError: some of the three are missing or out of range, or the others can't be reached.
    """
    given = {
        "coordinator_address": coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS"),
        "num_processes": _number("num_processes", num_processes, "JAX_NUM_PROCESSES"),
        "process_id": _number("process_id", process_id, "JAX_PROCESS_ID"),
    }
    if given["num_processes"] == 1:
        return
    if any(value is not None for value in given.values()):
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise DistributedError(
                f"--{missing[0]} is missing: several processes need --coordinator_address=host:port, --num_processes "
                "and --process_id (or none of them, on SLURM and on TPUs)"
            )
        count, index = int(given["num_processes"] or 0), int(given["process_id"] or 0)
        if not 0 <= index < count:
            raise DistributedError(f"--process_id={index} must be from 0 to --num_processes - 1, which is {count - 1}")
        if ":" not in str(given["coordinator_address"]):
            raise DistributedError(f"--coordinator_address={given['coordinator_address']}: give host:port")
        _initialize(**given, cluster_detection_method="deactivate")
        return
    cluster = detect_cluster(os.environ)
    if cluster is not None:
        # JAX knows which of its kinds of TPU environments this is.
        _initialize(**({} if cluster == "tpu" else {"cluster_detection_method": cluster}))


def detect_cluster(environment: Mapping[str, str]) -> str | None:
    """What surrounds this process: "slurm" or "ompi" with several tasks, "tpu", or None.

    A SLURM job of several tasks whose script runs Python without `srun` is one process: the step counts, not the job.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in environment:
        return "slurm"
    if int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return "ompi"
    on_tpu = find_spec("libtpu") is not None and (Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists())
    if on_tpu and environment.get("JAX_PLATFORMS", "tpu") in ("tpu", "tpu,cpu"):
        return "tpu"
    return None


def _number(name: str, value: int | None, variable: str) -> int | None:
    if value is not None:
        return value
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdigit():
        raise DistributedError(f"{variable}={text}: give a whole number, as --{name}")
    return int(text)


def _initialize(**arguments: object) -> None:
    # Gloo is what lets CPUs of several processes compute together; other devices bring their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **arguments,  # type: ignore[arg-type]
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        raise DistributedError(f"the processes did not come together: {error}") from error


def is_active() -> bool:
    """Whether this process has joined others."""
    return bool(jax.distributed.is_initialized())


def is_first() -> bool:
    """Whether this process writes the run's files and speaks for it."""
    return jax.process_index() == 0


def lost_process(error: Exception) -> str | None:
    """One line for the user if the error says that another process is gone; None if it is another kind of error."""
    text = str(error)
    if not isinstance(error, RuntimeError) or not any(sign in text for sign in _SIGNS_OF_LOSS):
        return None
    reason = next(line for line in text.splitlines() if line.strip())
    return (
        f"process {jax.process_index()} of {jax.process_count()} lost another one ({reason}); the last checkpoint is "
        "kept: start the same command on every host to go on from it"
    )
