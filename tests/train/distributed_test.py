"""How processes find each other, and what two of them train: the numbers of one, killed, resumed, or left alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import pytest

from care_jax.train import distributed
from care_jax.train.checkpoint import Checkpoints

PROGRAM = Path(__file__).parents[1] / "small_run.py"


@pytest.fixture
def initialized(monkeypatch):
    """What `jax.distributed.initialize` would have been given."""
    for name in [
        name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "JAX_COORD", "JAX_NUM", "JAX_PROC"))
    ]:
        monkeypatch.delenv(name)
    calls: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    return calls


def test_alone_nothing_happens(initialized):
    distributed.start()
    distributed.start(num_processes=1)
    assert initialized == []


def test_flags_and_environment_say_the_same(initialized, monkeypatch):
    distributed.start("host:1234", 2, 1)
    for name, value in (("COORDINATOR_ADDRESS", "host:1234"), ("NUM_PROCESSES", "2"), ("PROCESS_ID", "1")):
        monkeypatch.setenv(f"JAX_{name}", value)
    distributed.start()
    first, second = initialized
    assert first == second
    assert (first["coordinator_address"], first["num_processes"], first["process_id"]) == ("host:1234", 2, 1)


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "slurm"),
        # A job of four tasks, whose script was not started by srun: one process.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "ompi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ],
)
def test_clusters_are_recognised(initialized, monkeypatch, environment, cluster):
    assert distributed.detect_cluster(environment) == cluster
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.start()
    assert [call["cluster_detection_method"] for call in initialized] == ([cluster] if cluster else [])


def test_a_tpu_describes_itself(initialized, monkeypatch):
    monkeypatch.setattr(distributed, "find_spec", lambda name: name == "libtpu")
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/accel0")
    assert distributed.detect_cluster({}) == "tpu"
    assert distributed.detect_cluster({"JAX_PLATFORMS": "cpu"}) is None
    monkeypatch.delenv("JAX_PLATFORMS")
    distributed.start()
    assert len(initialized) == 1 and "cluster_detection_method" not in initialized[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, 0), "--num_processes is missing"),
        ((None, 2, 0), "--coordinator_address is missing"),
        (("host:1", 2, None), "--process_id is missing"),
        (("host:1", 2, 2), "--process_id=2 must be from 0 to --num_processes - 1, which is 1"),
        (("host", 2, 0), "--coordinator_address=host: give host:port"),
    ],
)
def test_what_is_missing_is_named(initialized, arguments, message):
    with pytest.raises(distributed.DistributedError, match=message):
        distributed.start(*arguments)
    assert initialized == []


def test_a_number_in_the_environment_is_checked(initialized, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(distributed.DistributedError, match="JAX_NUM_PROCESSES=two: give a whole number"):
        distributed.start()


def test_only_errors_of_communication_mean_a_lost_process():
    lost = distributed.lost_process(RuntimeError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer\nmore"))
    assert lost is not None and "Connection reset by peer" in lost and "\n" not in lost
    assert distributed.lost_process(RuntimeError("RESOURCE_EXHAUSTED: out of memory")) is None
    assert distributed.lost_process(KeyError("Gloo")) is None


def _start(workdir: Path, devices: int, *arguments: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(workdir), *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _start_two(workdir: Path, *arguments: str) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator_address=localhost:{port}", "--num_processes=2"]
    return [_start(workdir, 4, *together, f"--process_id={i}", *arguments) for i in (0, 1)]


def _finish(process: subprocess.Popen) -> str:
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return err


def _params(workdir: Path, step: int):
    from small_run import small_experiment  # its folder is on the path while this module runs

    from care_jax import build

    like = build.abstract_state(small_experiment(8))
    return jax.device_get(Checkpoints(workdir / "checkpoints").restore(like, step)[0].params)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, monkeypatch):
    """Killed in the middle, the other one ends with a line; together again they go on to the numbers of one process."""
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    alone = _start(tmp_path / "alone", 8, "--num_steps=8")
    two = _start_two(tmp_path / "two", "--num_steps=8", "--pause_at=5")
    _finish(alone)
    deadline = time.time() + 200
    while not (tmp_path / "two" / "checkpoints" / "4" / "info").exists():
        assert time.time() < deadline and all(process.poll() is None for process in two), two[0].communicate()[1]
        time.sleep(0.05)
    two[1].send_signal(signal.SIGKILL)
    killed_at = time.time()
    _, err = two[0].communicate(timeout=120)
    assert time.time() - killed_at < 60
    assert two[0].returncode == 2
    assert "process 0 of 2 lost another one" in err.splitlines()[-1] and "Traceback" not in err
    two[1].communicate()
    first, second = (_finish(process) for process in _start_two(tmp_path / "two", "--num_steps=8"))
    assert "going on from step 4 of 8" in first
    assert "going on" not in second and "images/s" not in second  # one speaks for both
    chex.assert_trees_all_close(_params(tmp_path / "two", 8), _params(tmp_path / "alone", 8), rtol=1e-5, atol=1e-5)
    rows = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("two", "alone")]
    for together, single in zip(*rows, strict=True):
        assert together["step"] == single["step"]
        if "loss" in single:
            assert together["loss"] == pytest.approx(single["loss"], rel=1e-5)
