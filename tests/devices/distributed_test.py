"""How processes find each other, and what two of them train: the numbers of one, killed, resumed, or left alone."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import chex
import jax
import pytest
from jax._src import distributed as jax_distributed
from jax._src.clusters import ClusterEnv

from care_jax.command_line import user_errors
from care_jax.data import DataError
from care_jax.devices import distributed, relay, rendezvous, watch
from care_jax.devices.rendezvous import Place
from care_jax.train import checkpoint_files
from care_jax.train.checkpoint import CheckpointError, Checkpoints
from tests.environment import on_cpus

PROGRAM = Path(__file__).parents[1] / "small_run.py"


@pytest.fixture
def initialized(monkeypatch):
    """What `jax.distributed.initialize` would have been given."""
    for name in [
        name
        for name in os.environ
        if name.startswith(("SLURM_", "OMPI_", "JAX_COORD", "JAX_NUM", "JAX_PROC", "JAX_LOCAL"))
    ]:
        monkeypatch.delenv(name)
    calls: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(distributed, "_watch", None)
    monkeypatch.setattr(watch, "Watch", lambda *arguments: arguments)
    monkeypatch.setattr(relay, "start", lambda host, port: 7777)
    return calls


@pytest.fixture
def met(monkeypatch, initialized):
    """Where the processes would have met."""
    places: list[Place] = []
    monkeypatch.setattr(rendezvous, "meet", lambda place, timeout, say: places.append(place))
    return places


def test_alone_nothing_happens(initialized, met):
    distributed.start()
    distributed.start(num_processes=1)
    assert initialized == met == []
    distributed.leave("nobody is told")
    distributed.finish()


def test_flags_and_environment_say_the_same(initialized, met, monkeypatch):
    distributed.start("host:1234", 2, 1)
    for name, value in (("COORDINATOR_ADDRESS", "host:1234"), ("NUM_PROCESSES", "2"), ("PROCESS_ID", "1")):
        monkeypatch.setenv(f"JAX_{name}", value)
    distributed.start()
    assert met == [Place("host", 1234, 2, 1, "--coordinator_address=host:1234")] * 2
    first, second = initialized
    assert first == second
    assert (first["num_processes"], first["process_id"]) == (2, 1)


def test_only_the_first_process_reaches_the_coordinator_itself(initialized, met):
    """The others by way of the relay; the watch, not JAX, is to notice first what is wrong."""
    for index in (0, 1):
        distributed.start("[fd00::1]:1234", 2, index)
    assert [call["coordinator_address"] for call in initialized] == ["[fd00::1]:1234", "127.0.0.1:7777"]
    assert all(call["heartbeat_timeout_seconds"] > watch.SILENCE for call in initialized)
    assert all(call["initialization_timeout"] > distributed.START_TIMEOUT for call in initialized)
    assert [place.host for place in met] == ["fd00::1"] * 2


def test_a_proxy_is_no_way_to_the_coordinator(initialized, met, monkeypatch):
    seen, name = [], "no_grpc_proxy"
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: seen.append(os.environ[name]))
    for before in ("", "elsewhere"):
        monkeypatch.delenv(name, raising=False)
        if before:
            monkeypatch.setenv(name, before)
        distributed.start("host:1234", 2, 1)
        assert os.environ.get(name, "") == before
    assert seen == ["127.0.0.1"] * 2


SLURM = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"},
    **{"SLURM_STEP_NODELIST": "node[03-06]", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x4)"},
}


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [
        (SLURM, "slurm"),
        # A job of four tasks, whose script was not started by srun: one process.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "ompi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ],
)
def test_clusters_are_recognised(environment, cluster):
    assert distributed.detect_cluster(environment) == cluster


def test_the_tasks_of_a_slurm_step_meet_where_jax_would_have_them_meet(initialized, met, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    distributed.start()
    assert met == [Place("node03", 61447, 4, 2, "slurm (process 0 is at node03:61447)")]
    (given,) = initialized
    assert given["num_processes"] == 4 and given["cluster_detection_method"] == "deactivate"
    assert given["local_device_ids"] == []  # all that it sees: it is alone on its node


@pytest.mark.parametrize("tasks", ["1(x4)", "4"])
def test_jax_makes_the_gpus_of_a_task_visible_and_no_others(initialized, met, monkeypatch, tasks):
    """By way of JAX's own start, up to where it would connect: what it was told, not what it was given."""
    for name, value in {**SLURM, "SLURM_STEP_TASKS_PER_NODE": tasks, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}.items():
        monkeypatch.setenv(name, value)
    distributed.start()

    class Connecting(Exception):
        pass

    def connect(*_, **__):
        raise Connecting

    told = {}
    state = jax_distributed.State()
    monkeypatch.setattr(jax_distributed.config, "update", told.__setitem__)
    monkeypatch.setattr(jax_distributed._jax, "get_distributed_runtime_client", connect)
    with pytest.raises(Connecting):
        state.initialize(**initialized[0])
    assert told.get("jax_cuda_visible_devices") == (None if tasks == "1(x4)" else "0")


def test_a_cluster_that_cannot_be_asked_is_left_to_jax(initialized, met, monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")  # and nothing else of it: JAX finds no address
    distributed.start()
    assert met == [] and [call["cluster_detection_method"] for call in initialized] == ["ompi"]
    assert initialized[0]["local_device_ids"] == []
    assert "the processes do not meet before JAX starts, because ompi can't be asked where" in capsys.readouterr().err


def test_a_tpu_describes_itself(initialized, met, monkeypatch):
    monkeypatch.setattr(distributed, "find_spec", lambda name: name == "libtpu")
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/accel0")
    assert distributed.detect_cluster({}) == "tpu"
    assert distributed.detect_cluster({"JAX_PLATFORMS": "cpu"}) is None
    monkeypatch.delenv("JAX_PLATFORMS")
    found = ("10.0.0.2:8476", 2, 1, None)
    monkeypatch.setattr(ClusterEnv, "auto_detect_unset_distributed_params", lambda *_: found)
    distributed.start()
    assert met == [Place("10.0.0.2", 8476, 2, 1, "tpu (process 0 is at 10.0.0.2:8476)")]
    found = ("10.0.0.2:8476", 1, 0, None)
    distributed.start()
    assert len(met) == 1 and len(initialized) == 2 and "cluster_detection_method" not in initialized[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, 0), "--num_processes is missing"),
        ((None, 2, 0), "--coordinator_address is missing"),
        (("host:1", 2, None), "--process_id is missing"),
        (("host:1", 2, 2), "--process_id=2 must be from 0 to --num_processes - 1, which is 1"),
        (("host:1", 0, 0), "--num_processes=0 must be at least 1"),
        (("host", 2, 0), "--coordinator_address=host: give host:port"),
        (("host:", 2, 0), "--coordinator_address=host:: give host:port"),
        ((":1234", 2, 0), "--coordinator_address=:1234: give host:port"),
        (("host:http", 2, 0), "--coordinator_address=host:http: give host:port"),
        (("host:70000", 2, 0), "--coordinator_address=host:70000: give host:port, the port from 1 to 65535"),
    ],
)
def test_what_is_missing_is_named(initialized, met, arguments, message):
    with pytest.raises(distributed.DistributedError, match=message):
        distributed.start(*arguments)
    assert initialized == met == []


@pytest.mark.parametrize("name", ["JAX_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_a_number_in_the_environment_is_checked(initialized, monkeypatch, name):
    monkeypatch.setenv(name, "two")
    with pytest.raises(distributed.DistributedError, match=f"{name}=two: give a whole number"):
        distributed.start()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_the_time_to_wait_is_checked(initialized, monkeypatch, text):
    monkeypatch.setenv("CARE_JAX_START_TIMEOUT", text)
    with pytest.raises(distributed.DistributedError, match=f"CARE_JAX_START_TIMEOUT={text}: give a number of seconds"):
        distributed.start("host:1234", 2, 1)


def test_jax_is_not_waited_for_without_end(initialized, met, monkeypatch, capsys):
    """Where hosts meet, but JAX does not get through: a line, then the end in Python's own words."""
    monkeypatch.setenv("CARE_JAX_START_TIMEOUT", "0.2")
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: ended.wait(20))
    monkeypatch.setattr(watch, "Watch", lambda *_: None)
    distributed.start("host:1234", 2, 1)
    assert ended.is_set()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "care_jax: waiting for JAX to connect all processes; at most 0.2 s"
    assert said[1].startswith("care_jax: JAX did not connect the processes within 0.2 s on")


def test_what_jax_refuses_is_one_line(initialized, met, monkeypatch):
    def refuse(**_):
        raise RuntimeError("no more sockets")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(distributed.DistributedError, match="the processes did not come together: no more sockets"):
        distributed.start("host:1234", 2, 1)


LOSS = RuntimeError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer\nmore")


def test_only_errors_of_communication_mean_a_lost_process(monkeypatch):
    assert distributed.lost_process(LOSS) is None  # alone, there is none to be lost
    monkeypatch.setattr(distributed, "is_active", lambda: True)
    lost = distributed.lost_process(LOSS)
    assert lost is not None and "Connection reset by peer" in lost and "\n" not in lost
    assert distributed.lost_process(RuntimeError("RESOURCE_EXHAUSTED: out of memory")) is None
    assert distributed.lost_process(KeyError("Gloo")) is None


def test_which_process_is_lost_is_for_the_watch_to_say(monkeypatch):
    monkeypatch.setattr(distributed, "is_active", lambda: True)
    waited = []
    monkeypatch.setattr(distributed, "_watch", SimpleNamespace(wait_for_loss=lambda: waited.append(True)))
    assert distributed.lost_process(LOSS)
    assert waited == [True]
    with pytest.raises(distributed.DistributedError, match="lost another one"):
        distributed.raise_if_lost(LOSS)
    distributed.raise_if_lost(OSError(28, "No space left on device"))


def test_a_process_lost_in_a_save_or_a_restore_is_told_as_lost(monkeypatch, tmp_path):
    """Not as a disk without room, and not as a checkpoint that can't be used."""
    checkpoints = Checkpoints(tmp_path)

    def fail_with(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(checkpoints._manager, "wait_until_finished", fail)
        monkeypatch.setattr(checkpoints._manager, "all_steps", lambda: [4])
        monkeypatch.setattr(checkpoint_files, "read", fail)

    monkeypatch.setattr(distributed, "is_active", lambda: True)
    fail_with(LOSS)
    with pytest.raises(distributed.DistributedError, match=r"lost another one.*Connection reset by peer"):
        checkpoints.wait()
    with pytest.raises(RuntimeError, match="Connection reset by peer"):  # as it is: the command tells it
        checkpoints.restore({})
    fail_with(OSError(28, "No space left on device"))
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoints.wait()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError("no folder images"), "no folder images"),
        (KeyError("shape"), "this process failed, and the others end with it: 'shape'"),
        (LOSS, "lost another one"),
    ],
)
def test_whatever_ends_a_process_is_told_to_the_others_first(monkeypatch, capsys, error, told):
    calls = []
    stand_in = SimpleNamespace(leave=calls.append, finish=lambda: calls.append("finish"), wait_for_loss=lambda: None)
    monkeypatch.setattr(distributed, "_watch", stand_in)
    monkeypatch.setattr(distributed, "is_active", lambda: True)
    monkeypatch.setattr(os, "_exit", lambda status: calls.append(status))
    with pytest.raises(SystemExit), user_errors():
        raise error
    (line, status) = calls
    assert told in line and status == 2
    assert capsys.readouterr().err.endswith(f"care_jax: {line}\n")
    calls.clear()
    with user_errors():
        pass
    assert calls == ["finish"]


def _start(workdir: Path, devices: int, *arguments: str, program: tuple[str, ...] = ()) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *(program or (str(PROGRAM), str(workdir))), *arguments],
        cwd=PROGRAM.parents[1],
        env=on_cpus(devices),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _together() -> list[str]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [f"--coordinator_address=localhost:{port}", "--num_processes=2"]


def _start_two(workdir: Path, *arguments: str) -> list[subprocess.Popen]:
    together = _together()
    return [_start(workdir, 4, *together, f"--process_id={i}", *arguments) for i in (0, 1)]


def _finish(process: subprocess.Popen) -> str:
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return err


def _params(workdir: Path, step: int):
    from small_run import small_experiment  # its folder is on the path while this module runs

    from care_jax.experiment import build

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
    two[0].send_signal(signal.SIGKILL)  # the first: JAX would end the other with an abort
    killed_at = time.time()
    _, err = two[1].communicate(timeout=120)
    assert time.time() - killed_at < 60
    assert two[1].returncode == 2
    assert len(err.splitlines()) == 1 and err.startswith("care_jax: process 0 of 2, on ") and "is lost (" in err
    two[0].communicate()
    first, second = (_finish(process) for process in _start_two(tmp_path / "two", "--num_steps=8", "--skip=a.png"))
    assert "going on from step 4 of 8" in first
    assert "going on" not in second and "images/s" not in second  # one speaks for both
    assert re.search(r"images/s, waiting \d+% \(process [01]\), ", first) and "8 cpu devices, 4 in each of 2 p" in first
    assert f"(1 unreadable: Permission denied), first a.png; met by process 1 on {socket.gethostname()}\n" in first
    assert first.count("a.png") == 1 and "a.png" not in second
    chex.assert_trees_all_close(_params(tmp_path / "two", 8), _params(tmp_path / "alone", 8), rtol=1e-5, atol=1e-5)
    rows = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("two", "alone")]
    for together, single in zip(*rows, strict=True):
        assert together["step"] == single["step"]
        if "loss" in single:
            assert together["loss"] == pytest.approx(single["loss"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_with_other_settings_do_not_train(tmp_path):
    """As the launcher is called; before anything is made, and however many steps each of them thinks there are."""
    together = ["--config=configs/digits.py", f"--workdir={tmp_path / 'run'}", *_together()]
    settings = [("0.001", "60"), ("0.1", "90")]
    processes = [
        _start(
            tmp_path,
            1,
            *together,
            f"--process_id={i}",
            f"--config.optimizer.learning_rate={rate}",
            f"--config.train.num_steps={steps}",
            program=("-m", "care_jax.main"),
        )
        for i, (rate, steps) in enumerate(settings)
    ]
    lines = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    host = socket.gethostname()
    told = f"config.optimizer.learning_rate: 0.001 in process 0 on {host}, 0.1 in process 1 on {host}; "
    assert lines[0] == lines[1] and lines[0].count("\n") == 1
    assert lines[0].startswith(f"care_jax: the processes of this run differ in {told}config.train.num_steps: 60 in")
    assert not (tmp_path / "run").exists()
