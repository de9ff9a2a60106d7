"""Processes that differ are refused before the first step, all of them, with what differs; threads stand for them."""

import json
import threading
from pathlib import Path

import pytest

from care_jax.devices import agreement, provenance
from care_jax.devices.rendezvous import DistributedError


class Coordinator:
    """What JAX's client does with keys and values."""

    def __init__(self):
        self._values = {}
        self._changed = threading.Condition()
        self.questions = 0

    def key_value_set(self, key, value):
        with self._changed:
            assert key not in self._values
            assert value.isascii()
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key, timeout_in_ms):
        with self._changed:
            self.questions += 1
            if not self._changed.wait_for(lambda: key in self._values, timeout_in_ms / 1000):
                raise RuntimeError(f"DEADLINE_EXCEEDED: GetKeyValue() timed out with key: {key}")
            return self._values[key]

    def key_value_delete(self, key):
        with self._changed:
            del self._values[key]

    def left(self):
        with self._changed:
            return sorted(self._values)


@pytest.fixture
def together(monkeypatch):
    """`together(count, call)`: `call(index)` in each of so many processes; their lines, empty where all is well."""
    this = threading.local()
    coordinator = Coordinator()
    monkeypatch.setattr(agreement, "_client", lambda: coordinator)

    def run(count, call):
        monkeypatch.setattr(agreement, "place", lambda: (this.index, count))
        lines = [None] * count

        def process(index):
            this.index = index
            try:
                call(index)
                lines[index] = ""
            except DistributedError as error:
                lines[index] = str(error)

        threads = [threading.Thread(target=process, args=(i,), daemon=True) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        return lines

    run.coordinator = coordinator
    return run


def test_alone_there_is_no_one_to_ask(monkeypatch, tmp_path):
    monkeypatch.setattr(agreement, "_client", None)
    agreement.check_settings({"seed": 0}, tmp_path)
    agreement.check_devices()
    agreement.check_data(None, tmp_path / "none")


def test_the_same_command_and_data_go_on(together, tmp_path):
    def call(_):
        agreement.check_settings({"seed": 0, "data.mean": (0.5, 0.5, 0.5)}, tmp_path)
        agreement.check_devices()
        agreement.check_data(lambda: {"data set": "digits"}, tmp_path)

    assert together(3, call) == [""] * 3
    assert list(tmp_path.iterdir()) == []


def test_settings_that_differ_are_named_in_every_process(together, tmp_path):
    settings = [{"optimizer.learning_rate": rate, "train.num_steps": 9, "seed": 0} for rate in (0.001, 0.1, 0.001)]
    settings[2]["train.num_steps"] = 8
    lines = together(3, lambda i: agreement.check_settings(settings[i], tmp_path))
    assert len(set(lines)) == 1
    host = agreement.socket.gethostname()
    assert f"config.optimizer.learning_rate: 0.001 in processes 0 on {host}, 2 on {host}, 0.1 in process 1" in lines[0]
    assert f"config.train.num_steps: 9 in processes 0 on {host}, 1 on {host}, 8 in process 2 on {host}" in lines[0]
    assert "seed" not in lines[0] and lines[0].endswith("Start all with the same command, program and data")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"jax": "0.9"}, "jax: 0.10.2 in process 0"),
        ({"care_jax": "0.1.0 (sources 1234)"}, "care_jax: "),
        ({"jax_enable_x64": "True"}, "jax_enable_x64: False in process 0"),
        ({"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}, "XLA_FLAGS: "),
    ],
)
def test_programs_that_differ_are_named(together, tmp_path, monkeypatch, change, told):
    programs = provenance.found()
    programs["jax"] = "0.10.2"
    facts = iter([programs, programs | change])
    lock = threading.Lock()

    def one():
        with lock:
            return next(facts)

    monkeypatch.setattr(provenance, "found", one)
    lines = together(2, lambda i: agreement.check_settings({}, tmp_path))
    name = told.partition(":")[0]
    assert len(set(lines)) == 1 and f"differ in {name}: " in lines[0]


def test_another_folder_of_the_same_name(together, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "_SEEN", 0.1)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()

    lines = together(2, lambda i: agreement.check_data(dict, folders[i]))
    assert len(set(lines)) == 1
    assert "--workdir: the folder of process 0 in process 0" in lines[0]
    assert f"{folders[1]} without the file that process 0 has just put there (No such file or directory)" in lines[0]
    assert not any(list(folder.iterdir()) for folder in folders)


def test_what_a_killed_run_left_is_cleared_away(together, tmp_path):
    (tmp_path / ".token-0123").write_text("")
    assert together(2, lambda i: agreement.check_data(dict, tmp_path)) == ["", ""]
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_no_text_is_compared_too(together, tmp_path):
    folders = [tmp_path / "run", tmp_path / "run\udce4"]
    lines = together(2, lambda i: agreement.check_settings({}, folders[i]))
    assert len(set(lines)) == 1 and f"{tmp_path}/run\udce4 in process 1" in lines[0]


def test_workdirs_are_compared_as_they_are_reached(together, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [Path("run"), tmp_path / "run"]
    assert together(2, lambda i: agreement.check_settings({}, folders[i])) == ["", ""]


def test_a_slow_process_is_waited_for_and_said(together, monkeypatch):
    said = []
    monkeypatch.setattr(agreement, "say", said.append)
    monkeypatch.setattr(agreement, "_ASK", 20)
    monkeypatch.setattr(agreement, "_REMIND", 0.05)
    slow = threading.Event()

    def call(index):
        if index:
            slow.wait(0.3)
        agreement.agree("data", {"data set": "digits"})

    assert together(2, call) == ["", ""]
    assert said[0].startswith("waiting for process 1 to send its data, for 0 s now")
    assert together.coordinator.questions > 3


def test_what_else_the_coordinator_says_is_no_patience(together, monkeypatch):
    class Gone(Coordinator):
        def blocking_key_value_get(self, *_):
            raise RuntimeError("UNAVAILABLE: Socket closed")

    monkeypatch.setattr(agreement, "_client", Gone)
    monkeypatch.setattr(agreement, "place", lambda: (1, 2))
    with pytest.raises(RuntimeError, match="UNAVAILABLE"):
        agreement.agree("data", {})


def test_many_processes_and_differences_make_one_readable_line():
    said = [{"host": f"h{i}", "facts": {f"s{k}": str(k + (i == 7)) for k in range(9)}} for i in range(100)]
    line = agreement.difference(json.loads(json.dumps(said)))
    assert "s0: 0 in processes 0 on h0, 1 on h1, 2 on h2, 3 on h3 and 95 more, 1 in process 7 on h7" in line
    assert "; and 4 more. Start all" in line and "s5" not in line
    assert agreement.difference(said[:3]) == ""


def test_a_fact_that_one_does_not_have():
    said = [{"host": "a", "facts": {}}, {"host": "b", "facts": {"files in ant": "3"}}]
    assert "files in ant: nothing in process 0 on a, 3 in process 1 on b" in agreement.difference(said)


def test_what_the_first_has_is_for_all(together):
    asked, heard = [], {}

    def hear(index):
        heard[index] = agreement.of_the_first("a choice", lambda: asked.append(index) or {"train.batch_size": index})

    assert together(3, hear) == [""] * 3
    assert heard == {index: {"train.batch_size": 0} for index in range(3)} and asked == [0]
