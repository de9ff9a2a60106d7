"""The loop: what it logs, when it saves, and how it stops."""

import functools
import itertools
import os
import signal
import time

import jax
import jax.numpy as jnp
import pytest

from care_jax.train import loop
from care_jax.train.checkpoint import Checkpoints
from care_jax.train.meter import NonFiniteLossError
from care_jax.train.metric_writer import MetricWriter, read_metrics
from care_jax.train.state import TrainState
from care_jax.train.timetable import Timetable


def _state() -> TrainState:
    return TrainState(
        step=jnp.int32(0), params={"w": jnp.zeros(3)}, batch_stats={}, optimizer_state=(), method_state={}
    )


@jax.jit
def _step(state: TrainState, batch: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    params = {"w": state.params["w"] + jnp.sum(batch)}
    return state.replace(step=state.step + len(batch), params=params), {"loss": batch, "info_nce": 2 * batch}


def _run(path, batches, *, state=None, start=0, stop=lambda: "", monitor=None, prepare=lambda *_: None, **overrides):
    settings = {"num_steps": 10, "log_every": 2, "evaluate_every": 5, "checkpoint_every": 5, "batch_size": 4}
    timetable = Timetable(**{**settings, **overrides})
    checkpoints = Checkpoints(path / "checkpoints")
    batches = iter(batches)
    with MetricWriter(path, start_step=start) as writer:
        outcome = loop.run(
            state or _state(),
            _step,
            (jnp.asarray(list(itertools.islice(batches, n)), jnp.float32) for n in timetable.counts(start)),
            timetable=timetable,
            checkpoints=checkpoints,
            writer=writer,
            monitor=monitor or (lambda step, variables: {"knn_top1": float(variables["params"]["w"][0])}),
            info={},
            prepare=prepare,
            stop=stop,
        )
    checkpoints.close()
    return outcome


def test_rows_are_means_over_every_step_once(tmp_path):
    outcome = _run(tmp_path, range(10))
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 0.5), (4, 2.5), (5, 4.0), (6, 5.0), (8, 6.5), (10, 8.5)]
    assert all(row["info_nce"] == 2 * row["loss"] for row in rows)
    assert all(row["images_per_second"] > 0 and 0 <= row["data_wait_share"] <= 1 for row in rows)
    assert outcome.finished
    assert float(outcome.state.params["w"][0]) == sum(range(10))


def test_evaluates_and_saves_when_due_and_at_the_end(tmp_path):
    _run(tmp_path, range(12), num_steps=12)
    evaluated = [(row["step"], row["knn_top1"]) for row in read_metrics(tmp_path) if "knn_top1" in row]
    assert evaluated == [(5, 10.0), (10, 45.0), (12, 66.0)]
    assert Checkpoints(tmp_path / "checkpoints").steps() == [10, 12]


def test_steps_of_one_call_end_where_something_is_due(tmp_path):
    """Calls of 4 steps, saves every 10; which calls there are is timetable_test's."""
    settings = {"num_steps": 20, "log_every": 4, "evaluate_every": 0, "checkpoint_every": 10, "steps_per_call": 4}
    outcome = _run(tmp_path, range(20), **settings)
    assert float(outcome.state.params["w"][0]) == sum(range(20))
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert [(row["step"], row["loss"]) for row in rows] == [
        (4, 1.5),
        (8, 5.5),
        (10, 8.5),
        (14, 11.5),
        (18, 15.5),
        (20, 18.5),
    ]


def test_each_number_of_steps_is_prepared_once_in_no_rows_time(tmp_path):
    prepared = []

    def prepare(state, batch):
        prepared.append((int(state.step), len(batch)))
        time.sleep(0.5)

    _run(tmp_path, range(20), num_steps=20, evaluate_every=0, checkpoint_every=10, steps_per_call=4, prepare=prepare)
    assert prepared == [(0, 4), (8, 1)]
    assert all(row["images_per_second"] > 4 * 4 / 0.5 for row in read_metrics(tmp_path) if "loss" in row)


def test_a_bad_step_inside_a_call_is_named(tmp_path):
    batches = [0, 1, 2, 3, 4, 5, float("nan"), 7, 8, 9]
    with pytest.raises(NonFiniteLossError, match="step 7 is not finite"):
        _run(tmp_path, batches, steps_per_call=5, log_every=1)


@pytest.mark.parametrize(("bad", "term"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_non_finite_term_stops_the_run_and_keeps_what_was_saved(tmp_path, bad, term):
    batches = [0, 1, 2, 3, 4, 5, bad, 7, 8, 9]
    with pytest.raises(NonFiniteLossError, match=f"step 7 is not finite: info_nce is {term}, loss is {term};"):
        _run(tmp_path, batches)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [5]
    state, _ = checkpoints.restore(_state())
    assert float(state.params["w"][0]) == 10.0


def test_nothing_is_saved_after_a_non_finite_loss_at_the_step_of_a_save(tmp_path):
    with pytest.raises(NonFiniteLossError, match="step 5 is not finite"):
        _run(tmp_path, [0, 0, 0, 0, float("nan")])
    assert Checkpoints(tmp_path / "checkpoints").steps() == []


def test_a_stop_saves_and_the_rest_is_the_same(tmp_path):
    asked = itertools.chain([""] * 8, ["SIGHUP"])
    outcome = _run(tmp_path, range(10), stop=lambda: next(asked))
    assert outcome.stopped_by == "SIGHUP" and not outcome.finished
    assert next(asked, None) is None  # once a step, and once more
    state, info = Checkpoints(tmp_path / "checkpoints").restore(_state())
    step = int(state.step)
    assert step == 8 and info["seconds"] > 0
    outcome = _run(tmp_path, range(step, 10), state=state, start=step)
    assert outcome.finished and not outcome.stopped_by
    assert float(outcome.state.params["w"][0]) == sum(range(10))
    steps = [row["step"] for row in read_metrics(tmp_path) if "loss" in row]
    assert steps == sorted(set(steps)) and steps[-1] == 10


@pytest.mark.parametrize("checkpoint_every", [5, 0])
def test_an_evaluation_left_off_for_a_stop_is_said_and_the_step_saved(tmp_path, capsys, checkpoint_every):
    stopped = []

    def left_off(step, variables):
        stopped.append("SIGTERM")
        raise loop.stops.Interrupted

    outcome = _run(
        tmp_path, range(10), checkpoint_every=checkpoint_every, monitor=left_off, stop=lambda: "".join(stopped)
    )
    assert outcome.stopped_by == "SIGTERM"
    assert Checkpoints(tmp_path / "checkpoints").steps() == [5]
    assert "step 5: the evaluation was left off" in capsys.readouterr().err
    assert not [row for row in read_metrics(tmp_path) if "knn_top1" in row]


def test_a_signal_is_noted_as_soon_as_there_is_something_to_save(tmp_path, monkeypatch):
    """While the first step is compiled nothing is; before the first evaluation, and the first save, there is."""
    happened = []
    monkeypatch.setattr(loop.stops, "note", lambda: happened.append("note"))
    step, save = _step, Checkpoints.save
    monkeypatch.setitem(globals(), "_step", lambda *given: happened.append("step") or step(*given))
    monkeypatch.setattr(Checkpoints, "save", lambda *given, **more: happened.append("save") or save(*given, **more))
    _run(tmp_path, range(1), num_steps=1)
    assert happened == ["step", "note", "save"]


def test_processes_stop_at_the_same_call_whichever_was_told(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    told, told_others = iter([False, True, True]), []
    noted = iter(["SIGINT", ""])
    monkeypatch.setattr(loop.multihost_utils, "reached_preemption_sync_point", lambda call: next(told))
    monkeypatch.setattr(loop.stops, "noted", lambda: next(noted))
    monkeypatch.setattr(loop.stops, "note", lambda tell: told_others.append(tell))
    monkeypatch.setattr(os, "kill", lambda *given: told_others.append(given))
    stop = loop.agreed_stop()
    assert [stop(), stop(), stop()] == ["", "SIGINT", "a signal to one of the processes"]
    told_others[0]()
    assert told_others[1:] == [(os.getpid(), signal.SIGTERM)]


def test_waiting_for_data_is_measured(tmp_path, monkeypatch):
    def slow():
        for batch in range(6):
            time.sleep(0.1)
            yield batch

    def slow_step(state, batch, step=_step):
        time.sleep(0.1)
        return step(state, batch)

    _run(tmp_path, slow(), num_steps=6, evaluate_every=0, checkpoint_every=0)
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert all(row["data_wait_share"] > 0.5 for row in rows) and len(rows) == 3
    monkeypatch.setitem(globals(), "_step", slow_step)
    assert _run(tmp_path / "fast", range(6), num_steps=6, evaluate_every=0, checkpoint_every=0).finished
    fast = [row for row in read_metrics(tmp_path / "fast") if "loss" in row]
    assert fast[-1]["data_wait_share"] < 0.5


@pytest.mark.parametrize("processes", [1, 3])
def test_a_row_has_the_waiting_of_the_process_that_waits_longest(tmp_path, monkeypatch, capsys, processes):
    """A slow disk anywhere makes all wait, in the first process for a collective."""
    told = []

    def all_tell(what, share):
        told.append(share)
        return [share] if processes == 1 else [share / 2, 0.875, 0.25]

    monkeypatch.setattr(loop.to_the_first, "told", all_tell)
    _run(tmp_path, range(4), num_steps=4, evaluate_every=0, checkpoint_every=0)
    shares = [row["data_wait_share"] for row in read_metrics(tmp_path) if "loss" in row]
    lines = [line for line in capsys.readouterr().err.splitlines() if "images/s" in line]
    assert len(shares) == len(told) == len(lines) == 2
    if processes == 1:
        assert shares == told and not any("process" in line for line in lines)
    else:
        assert shares == [0.875] * 2 and all("images/s, waiting 88% (process 1), " in line for line in lines)


def test_after_each_save_it_is_said_to_all(tmp_path, monkeypatch):
    saved = []
    told = functools.partial(loop.run, saved=lambda: saved.append(1))
    monkeypatch.setattr(loop, "run", told)
    _run(tmp_path, range(10))
    assert len(saved) == 2


def test_writer_drops_the_steps_that_are_made_again(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed in the middle of a line
    with MetricWriter(tmp_path, start_step=2) as writer:
        writer.write(3, {"loss": 30.0})
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_the_rows_are_on_the_disk_before_each_save(tmp_path, monkeypatch):
    """Else a power cut could take rows whose steps are not made again."""
    called = []
    for owner, name in ((MetricWriter, "sync"), (Checkpoints, "save")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, real=real, name=name, **k: (called.append(name), real(*a, **k))[1])
    _run(tmp_path, range(10))
    assert called == ["sync", "save"] * 2


def test_the_line_of_a_row_names_what_is_trained_on(capsys):
    loop._Progress(10, 0, "clouds").show(5, {"loss": 2.5, "images_per_second": 812.3, "data_wait_share": 0.25})
    assert capsys.readouterr().err.startswith("step 5/10: loss 2.5, 812 clouds/s, waiting 25%, ")
