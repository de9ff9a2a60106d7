"""Several processes, one run: how they find each other, agree, and end when one of them is lost."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from care_jax.devices import local_devices, relay, rendezvous, watch
from care_jax.devices.rendezvous import DistributedError, Place
from care_jax.devices.watch import say

__all__ = ["DistributedError", "finish", "is_active", "is_first", "leave", "lost_process", "raise_if_lost", "start"]

# Seconds that a process waits for the others at the start; CARE_JAX_START_TIMEOUT changes it.
START_TIMEOUT = 300.0
# What collectives say when their peer is gone.
_SIGNS_OF_LOSS = ("Gloo", "Connection", "NCCL", "heartbeat", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination service")
_NO_PROXY = "no_grpc_proxy"

_watch: watch.Watch | None = None


def start(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins this process to the others of its run; call it before anything else touches JAX's devices.

    With arguments, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment, these are used.
    Without, a SLURM step or an MPI run of several tasks and a Cloud TPU describe themselves; of the GPUs that it sees a
    task takes those of `local_devices.of_task`. Otherwise the process is alone, and nothing happens.

    Args:
      coordinator_address: host:port of process 0, that all can reach.
      num_processes: of the run; 1 keeps the process alone whatever the environment says.
      process_id: of this one, from 0.

    Raises:
      DistributedError: some of the three are missing or out of range, the others can't be reached in time, or they were
        started otherwise; one line, which all processes that are here raise.
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
        if count < 1:
            raise DistributedError(f"--num_processes={count} must be at least 1")
        if not 0 <= index < count:
            raise DistributedError(f"--process_id={index} must be from 0 to --num_processes - 1, which is {count - 1}")
        host, port = _split(str(given["coordinator_address"]))
        source = f"--coordinator_address={given['coordinator_address']}"
        _come_together(Place(host, port, count, index, source), cluster_detection_method="deactivate")
        return
    cluster = detect_cluster(os.environ)
    if cluster is not None:
        _join_cluster(cluster)


def detect_cluster(environment: Mapping[str, str]) -> str | None:
    """What surrounds this process: "slurm" or "ompi" with several tasks, "tpu", or None.

    A SLURM job of several tasks whose script runs Python without `srun` is one process: the step counts, not the job.
    """
    if _whole(environment, "SLURM_STEP_NUM_TASKS") > 1 and "SLURM_PROCID" in environment:
        return "slurm"
    if _whole(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "ompi"
    on_tpu = find_spec("libtpu") is not None and (Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists())
    if on_tpu and environment.get("JAX_PLATFORMS", "tpu") in ("tpu", "tpu,cpu"):
        return "tpu"
    return None


def _whole(environment: Mapping[str, str], variable: str) -> int:
    text = environment.get(variable, "1")
    if not text.isdecimal():
        raise DistributedError(f"{variable}={text}: give a whole number")
    return int(text)


def _number(name: str, value: int | None, variable: str) -> int | None:
    if value is not None:
        return value
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdecimal():
        raise DistributedError(f"{variable}={text}: give a whole number, as --{name}")
    return int(text)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host.strip("[]") or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 2**16:
        raise DistributedError(f"--coordinator_address={address}: give host:port, the port from 1 to 65535")
    return host.strip("[]"), int(port)


def _start_timeout() -> float:
    text = os.environ.get("CARE_JAX_START_TIMEOUT", str(START_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise DistributedError(f"CARE_JAX_START_TIMEOUT={text}: give a number of seconds above 0")
    return seconds


def _join_cluster(cluster: str) -> None:
    """As the cluster describes itself: what JAX's own start would find is found before it, to meet the others there."""
    method = None if cluster == "tpu" else cluster  # JAX knows which of its kinds of TPU environments this is
    left: dict[str, Any] = {}  # what JAX's own start is told, where it is left to that
    if method:
        # An empty list is not None: of that JAX would make the one device that it gives a task.
        left = {"cluster_detection_method": method, "local_device_ids": local_devices.of_task(os.environ, method)}
    try:
        from jax._src.clusters import ClusterEnv

        address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, method, int(_start_timeout())
        )
        host, port = _split(str(address))
        place = Place(host, port, int(count or 1), int(index or 0), f"{cluster} (process 0 is at {address})")
    except DistributedError:
        raise
    except Exception as error:  # no part of JAX's public interface; and what it asks may not answer
        say(f"the processes do not meet before JAX starts, because {cluster} can't be asked where ({error})")
        _initialize(**left)
        return
    if place.count > 1:
        _come_together(place, **(left | {"cluster_detection_method": "deactivate"}))
    else:
        _initialize(**left)


def _come_together(place: Place, **arguments: Any) -> None:
    global _watch
    peers = rendezvous.meet(place, _start_timeout(), say)
    _watch = watch.Watch(place.index, place.count, peers)
    host, port = (place.host, place.port) if place.index == 0 else ("127.0.0.1", relay.start(place.host, place.port))
    with _no_proxy(host):
        _initialize(
            coordinator_address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            num_processes=place.count,
            process_id=place.index,
            **arguments,
        )


@contextlib.contextmanager
def _no_proxy(host: str) -> Iterator[None]:
    """A proxy is no way to the coordinator; set for its connection only, because others may need theirs."""
    before = os.environ.get(_NO_PROXY)
    os.environ[_NO_PROXY] = host
    try:
        yield
    finally:
        del os.environ[_NO_PROXY]
        if before is not None:
            os.environ[_NO_PROXY] = before


def _initialize(**arguments: Any) -> None:
    # Gloo is what lets CPUs of several processes compute together; other devices bring their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    limit = _start_timeout()
    joined = threading.Event()
    threading.Thread(target=_limit_wait, args=(joined, limit), name="start", daemon=True).start()
    try:
        jax.distributed.initialize(
            **arguments,
            # What JAX notices ends in an abort: the watch, and the thread above, are to notice it before.
            initialization_timeout=round(2 * limit) + 10,
            heartbeat_timeout_seconds=round(2 * watch.SILENCE),
        )
    except (RuntimeError, ValueError) as error:
        raise DistributedError(f"the processes did not come together: {error}") from error
    finally:
        joined.set()


def _limit_wait(joined: threading.Event, limit: float) -> None:
    if joined.wait(min(5.0, limit)):
        return
    say(f"waiting for JAX to connect all processes; at most {limit:g} s")
    if not joined.wait(limit):
        line = (
            f"JAX did not connect the processes within {limit:g} s on {socket.gethostname()}: look at what the other "
            "processes say, and at whether hosts reach each other"
        )
        leave(line)
        say(line)
        os._exit(2)


def leave(reason: str) -> None:
    """Before this process ends with an error: tells the others, who end too, so that none waits for it.

    Args:
      reason: the line that it ends with.
    """
    if _watch is not None:
        _watch.leave(reason)


def finish() -> None:
    """At the end of what all processes do: returns when every one has come here; one that is lost ends the others."""
    if _watch is not None:
        _watch.finish()


def is_active() -> bool:
    """Whether this process has joined others."""
    return bool(jax.distributed.is_initialized())


def is_first() -> bool:
    """Whether this process writes the run's files and speaks for it."""
    return jax.process_index() == 0


def lost_process(error: BaseException) -> str | None:
    """One line for the user if the error says that another process is gone; None if it is another kind of error.

    Which one it is, the watch knows, and then this process has ended before this returns.
    """
    text = str(error)
    if not isinstance(error, RuntimeError) or not any(sign in text for sign in _SIGNS_OF_LOSS) or not is_active():
        return None
    if _watch is not None:
        _watch.wait_for_loss()
    reason = next(line for line in text.splitlines() if line.strip())
    return (
        f"process {jax.process_index()} of {jax.process_count()} lost another one, or waited too long for it "
        f"({reason}); {watch.GO_ON}"
    )


def raise_if_lost(error: BaseException) -> None:
    """For those who tell of an error in their own words: the loss of a process, as it or its cause, is told as such.

    Raises:
      DistributedError: it is.
    """
    cause: BaseException | None = error
    while cause is not None:
        lost = lost_process(cause)
        if lost is not None:
            raise DistributedError(lost) from error
        cause = cause.__cause__
