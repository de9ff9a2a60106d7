"""A sweep from its plan to its table: nothing is made twice, and a run that fails ends none of the others."""

import json

import pytest

from care_jax.command_line import UsageError
from care_jax.data import DataError
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.sweep import course, plan
from care_jax.sweep.processes import ALL, Share
from care_jax.workdir import WorkdirError, check_data, hold

GRID = {"equivariance.weight": [0.0, 0.5]}


def _run(config, workdir, shares=(ALL,), chosen=GRID):
    return course.run(plan.make(config, chosen, workdir, seeds=2), shares)


def _rows(text):
    return [line for line in text.splitlines() if line.startswith("| equivariance.weight=")]


def test_runs_that_are_there_are_not_made_again(children, finish, tmp_path, tiny_config, capsys):
    finish(tiny_config(equivariance__weight=0.5), tmp_path / "equivariance.weight=0.5" / "seed=0")
    text, failed = _run(tiny_config(), tmp_path)
    assert [cores for _, cores in children.started] == ["", "", ""] and failed == {}  # all that there is
    assert _rows(text) == [
        "| equivariance.weight=0   | 2    | **50.5 ± 0.7 (2)** |",
        "| equivariance.weight=0.5 | 2    | **50.5 ± 0.7 (2)** |",
    ]
    assert (tmp_path / "sweep.md").read_text() == text + "\n"
    assert "All numbers" in (tmp_path / "compare.html").read_text()
    record = json.loads((tmp_path / "sweep.json").read_text())
    assert record["set"] == GRID and record["seeds"] == [0, 1] and record["settings"]["train"]["num_steps"] == 6
    assert {one["state"] for one in record["runs"]} == {"finished"}
    assert record["table"][1]["measures"]["knn_top1"] == {"mean": 50.5, "spread": pytest.approx(0.5**0.5), "n": 2}
    said = capsys.readouterr().err
    assert "4 runs (2 values of equivariance.weight x 2 seeds), 1 of them finished\n" in said
    assert "3 of 4 runs are finished, about 0 s left;" in said
    # More values are the same sweep.
    more = {"equivariance.weight": [0.5, 0.0, 1.0]}
    text, _ = _run(tiny_config(), tmp_path, (Share((0,)), Share((1,))), more)
    assert len(children.started) == 5 and children.most == 2 and len(_rows(text)) == 3


def test_a_run_that_fails_ends_none_of_the_others(children, tmp_path, tiny_config):
    children.ends = 2, "care_jax: a loss is not finite\n"
    planned = plan.make(tiny_config(), GRID, tmp_path, seeds=2)
    text, failed = course.run(planned, [ALL])
    assert len(children.started) == 4 and [path.name for path in failed] == ["seed=1", "seed=1"]
    assert "| 1 of 2 finished, 1 failed | **50.0 (1)** |" in text
    assert "* equivariance.weight=0/seed=1 failed: a loss is not finite" in text
    assert course.told(planned, failed).startswith("2 runs of 4 failed, the first: ")
    states = [one["state"] for one in json.loads((tmp_path / "sweep.json").read_text())["runs"]]
    assert states == ["finished", "failed"] * 2
    children.ends = None
    assert _run(tiny_config(), tmp_path)[1] == {} and len(children.started) == 6


def test_everything_is_checked_before_anything_is_made(children, finish, tmp_path, tiny_config):
    with pytest.raises(ConfigError, match=r"equivariance\.weight=-1: config\.equivariance\.weight is -1"):
        _run(tiny_config(), tmp_path, chosen={"equivariance.weight": [0.0, -1.0]})
    with pytest.raises(ConfigError, match=r"config\.loss\.method is 'x'; choose one of"):
        _run(tiny_config(), tmp_path, chosen={"loss.method": ["simclr", "x"]})
    with pytest.raises(ConfigError, match=r"config\.train\.batch_size is 4096, more than the 1438 training images"):
        _run(tiny_config(), tmp_path, chosen={"train.batch_size": [4096]})
    with pytest.raises(ConfigError, match=r"config\.train\.log_every is None; give a whole"):
        _run(tiny_config(), tmp_path, chosen={"train.log_every": [None]})
    assert not list(tmp_path.iterdir()) and not children.started
    finish(tiny_config(), tmp_path / "a")
    with pytest.raises(UsageError, match=r"a is the folder of a run; give the sweep a --workdir of its own"):
        _run(tiny_config(), tmp_path / "a")
    run = tmp_path / "equivariance.weight=0" / "seed=1"
    finish(tiny_config(seed=1, train__num_steps=7, equivariance__weight=0.0), run)
    with pytest.raises(UsageError, match=r"holds a run with other settings \(config\.train\.num_steps: 7 -> 6\)"):
        _run(tiny_config(), tmp_path)
    (run / "summary.json").unlink()
    (run / "checkpoints" / "2").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(config\.train\.num_steps: 7 -> 6\)"):
        _run(tiny_config(), tmp_path)
    planned = plan.make(tiny_config(train__num_steps=7), GRID, tmp_path, seeds=2)
    assert [line.rpartition(": ")[2] for line in plan.dry_run(planned).splitlines()][:4] == [
        *("to be made", "to be made", "goes on", "to be made")
    ]


def test_another_sweep_in_the_folder_is_refused(children, tmp_path, tiny_config, capsys):
    _run(tiny_config(equivariance__weight=0.3), tmp_path)
    with pytest.raises(UsageError, match=r"holds another sweep, of equivariance\.weight: give another --workdir"):
        _run(tiny_config(), tmp_path, chosen={"train.batch_size": [32]})
    with pytest.raises(UsageError, match=r"with other settings \(config\.optimizer\.name: 'adam' -> 'sgd'\)"):
        _run(tiny_config(optimizer__name="sgd"), tmp_path)
    with hold(tmp_path), pytest.raises(WorkdirError, match="is in use"):
        _run(tiny_config(train__log_every=9), tmp_path)
    data = tmp_path / "equivariance.weight=0" / "seed=0"
    (data / "data.json.gz").unlink()
    check_data(data, build.load_data(tiny_config(data__image_size=24)))
    with pytest.raises(DataError, match="changed since"):
        _run(tiny_config(), tmp_path)
    (data / "data.json.gz").unlink()
    (tmp_path / "sweep.json").write_text("[]")
    assert _run(tiny_config(), tmp_path)[1] == {} and len(children.started) == 4
    assert "sweep.json can't be read" in capsys.readouterr().err


def test_finished_runs_that_are_no_longer_in_the_table_are_said(children, tmp_path, tiny_config, capsys):
    _run(tiny_config(), tmp_path)
    _run(tiny_config(), tmp_path)
    assert "without" not in capsys.readouterr().err
    plan.make(tiny_config(seed=1), {"equivariance.weight": [0.5, 1.0]}, tmp_path, seeds=2)
    assert (
        f"{tmp_path}: the table, sweep.json and the page of this command are without finished runs that they had, "
        "equivariance.weight=0 (seed=0, seed=1), equivariance.weight=0.5 (seed=0): the runs stay, and the command"
    ) in capsys.readouterr().err
    (tmp_path / "sweep.json").write_text('{"set": ["equivariance.weight"], "settings": {}, "runs": [1]}')
    plan.make(tiny_config(), GRID, tmp_path, seeds=2)
    assert "sweep.json can't be read" in capsys.readouterr().err


def test_now_and_then_a_word_on_what_is_going_on(tmp_path, tiny_config, monkeypatch, capsys):
    monkeypatch.setattr(course, "_WORD", 0.0)
    planned = plan.make(tiny_config(), GRID, tmp_path, seeds=1)
    going = course.Course(planned, jobs=2)
    runs = planned.all
    for step in (3, 6):
        runs[1].workdir.mkdir(parents=True, exist_ok=True)
        (runs[1].workdir / "metrics.jsonl").write_text(json.dumps({"step": step}) + "\n")
        going.watch(runs)
    first, second = capsys.readouterr().err.splitlines()
    assert (
        "going on: equivariance.weight=0/seed=0 before its first row, equivariance.weight=0.5/seed=0 at step 3 of 6"
        in first
    )
    assert second.endswith("equivariance.weight=0.5/seed=0 in its evaluation")
