"""A table's runs: what is missing is made, one by one or several at a time; an end in the middle loses nothing."""

import json
import os
from unittest.mock import Mock

import pytest

from care_jax.command_line import UsageError
from care_jax.evaluate import plots
from care_jax.experiment.config import ConfigError
from care_jax.sweep import processes
from care_jax.sweep.processes import Share
from care_jax.sweep.runs import Run
from care_jax.sweep.table import Row, Table
from care_jax.sweep.tables import Picture, RunError, progress, run_table

TABLE = Table(
    ("lambda",), {str(w): Row((str(w),), {"equivariance.weight": w}) for w in (0.0, 0.5)}, ("knn_top1",), ("knn_top1",)
)


def test_runs_that_are_there_are_not_made_again(made, finish, tmp_path, tiny_config, capsys):
    finish(tiny_config(equivariance__weight=0.5, seed=1), tmp_path / "0.5_seed_1")
    text = run_table(TABLE, tiny_config(), tmp_path, seeds=2)
    assert made == ["0.0_seed_0", "0.0_seed_1", "0.5_seed_0"]
    assert text.splitlines()[-1] == "| 0.5 | 2 | 50.5 ± 0.7 |" and (tmp_path / "table.md").read_text() == text + "\n"
    numbers = json.loads((tmp_path / "table.json").read_text())
    assert numbers["rows"]["0.5"]["labels"] == {"lambda": "0.5"} and list(numbers["measures"]) == ["knn_top1"]
    assert numbers["rows"]["0.5"]["settings"] == {"equivariance.weight": 0.5}
    runs = numbers["rows"]["0.5"]["runs"]
    assert runs == [{"knn_top1": 50.0 + seed, "steps": 6, "params_sha256": None} for seed in (0, 1)]
    said = [line for line in capsys.readouterr().err.splitlines() if "finished" in line]
    assert said[0] == "care_jax: 1 of 4 runs are finished, about 3 min left" and len(said) == 4
    assert run_table(TABLE, tiny_config(), tmp_path, seeds=2) == text and len(made) == 3
    drawn = []
    picture = Picture("picture.png", lambda *of: drawn.append(of) or plots.panel()[0])
    assert run_table(TABLE, tiny_config(), tmp_path, seeds=2, picture=picture) == text
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG") and drawn[0][0] == TABLE
    assert [len(summaries) for summaries in drawn[0][1].values()] == [2, 2] and list(drawn[0][1]) == ["0.0", "0.5"]


def test_every_row_is_checked_before_the_first_run(made, finish, tmp_path, tiny_config):
    rows = TABLE.rows | {"bad": Row(("bad",), {"equivariance.num_groups": 5})}
    with pytest.raises(ConfigError, match="num_groups is 5"):
        run_table(TABLE._replace(rows=rows), tiny_config(), tmp_path, seeds=1)
    finish(tiny_config(seed=3), tmp_path / "0.5_seed_0")
    with pytest.raises(UsageError, match="holds a run with other settings"):
        run_table(TABLE, tiny_config(), tmp_path, seeds=1)
    assert made == []


def test_a_table_without_rows_replaces_nothing(made, tmp_path, tiny_config):
    run_table(TABLE, tiny_config(), tmp_path, seeds=1)
    before = (tmp_path / "table.md").read_text(), (tmp_path / "table.json").read_text()
    with pytest.raises(UsageError, match=r"^this table has no rows: nothing is made, and .* stays as it is; give "):
        run_table(TABLE._replace(rows={}), tiny_config(), tmp_path, seeds=1)
    assert ((tmp_path / "table.md").read_text(), (tmp_path / "table.json").read_text()) == before
    with pytest.raises(UsageError, match="has no rows"):
        run_table(TABLE._replace(rows={}), tiny_config(), tmp_path / "new", seeds=1)
    assert not (tmp_path / "new").exists() and len(made) == 2


def test_rows_that_the_table_before_had_and_this_one_lacks_are_said(made, tmp_path, tiny_config, capsys):
    run_table(TABLE, tiny_config(), tmp_path, seeds=2)
    run_table(TABLE, tiny_config(), tmp_path, seeds=2)
    assert "written" not in capsys.readouterr().err
    fewer = TABLE._replace(rows={"0.0": TABLE.rows["0.0"]})
    run_table(fewer, tiny_config(), tmp_path, seeds=1)
    assert (
        f"{tmp_path}: table.md and table.json are written without what was there of 0.0 (2 seeds there, 1 now), 0.5; "
        "the runs stay, and the command that wrote it writes it again"
    ) in capsys.readouterr().err
    assert list(json.loads((tmp_path / "table.json").read_text())["rows"]) == ["0.0"] and len(made) == 4
    (tmp_path / "table.json").write_text("[]")
    run_table(fewer, tiny_config(), tmp_path, seeds=1)
    assert "table.json are written anew: what was there can't be read (TypeError" in capsys.readouterr().err


def test_several_at_a_time_each_with_its_cores(children, made, tmp_path, tiny_config):
    text = run_table(TABLE, tiny_config(), tmp_path, seeds=2, jobs=2)
    assert "| 0.0 | 2 | 50.5 ± 0.7 |" in text and made == []
    assert children.most == 2 and {cores for _, cores in children.started} == {"0,2", "1,3"}
    assert [name for name, _ in children.started] == ["0.0_seed_0", "0.0_seed_1", "0.5_seed_0", "0.5_seed_1"]
    processes.stops.at_once.assert_called_once()
    assert run_table(TABLE, tiny_config(), tmp_path, seeds=2, jobs=2) == text and len(children.started) == 4


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (2, "step 3\ncare_jax: the disk is full\n", "the disk is full; the other runs are saved"),
        (0, "care_jax: stopped by SIGTERM: step 3 is saved\n", "stopped by SIGTERM: step 3 is saved; the other"),
        (1, "care_jax: 3 steps\nTraceback\n", "status 1, see log.txt there; the other"),
        (-9, "care_jax: 3 steps\n", "status -9, see log.txt there; the other"),
        (2, "", "status 2, see log.txt there; the other"),
    ],
)
def test_a_run_that_is_not_finished_ends_the_table_with_its_line(children, tmp_path, tiny_config, status, said, told):
    children.ends = status, said
    (tmp_path / "0.0_seed_1").mkdir()
    (tmp_path / "0.0_seed_1" / "log.txt").write_text("care_jax: what was said the last time\n")
    with pytest.raises(RunError, match=r"0\.0_seed_1 is not finished: .*, and the same command goes on$") as ended:
        run_table(TABLE, tiny_config(), tmp_path, seeds=2, jobs=2)
    assert told in str(ended.value)
    assert (tmp_path / "0.0_seed_0" / "summary.json").exists() and not (tmp_path / "table.md").exists()
    assert not children.going
    children.ends = None
    assert "50.5" in run_table(TABLE, tiny_config(), tmp_path, seeds=2, jobs=2)


def test_a_signal_stops_all_runs_and_ends_the_table(children, tmp_path, tiny_config, monkeypatch):
    monkeypatch.setattr(processes.stops, "noted", lambda: "SIGINT")
    monkeypatch.setattr(processes.stops, "at_once", Mock(side_effect=SystemExit(0)))  # as it does then
    with pytest.raises(SystemExit):
        run_table(TABLE, tiny_config(), tmp_path, seeds=2, jobs=2)
    assert len(children.started) == 2 and not children.going
    assert not list(tmp_path.glob("*/summary.json"))


def test_progress():
    assert progress([], 3, 1) == "0 of 3 runs are finished"
    assert progress([{"seconds": 40.0}], 3, 1) == "1 of 3 runs are finished, about 80 s left"
    assert progress([{"seconds": 40.0}, {"seconds": 200.0}], 8, 3) == "2 of 8 runs are finished, about 4 min left"


def test_no_more_jobs_than_cores_or_gpus(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,6")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert processes.shares(2) == [Share((2,), ("3",)), Share((5,), ("6",))]
    assert "--jobs=2 leaves 1 of the 3 cores idle, so that all runs have equally many" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"the 2 GPUs; give --jobs=2 at most, or set JAX_PLATFORMS=cpu to run on the"):
        processes.shares(3)
    for visible, there in (("-1", []), ("", []), ("NoDevFiles", []), ("0, 2,-1,3", ["0", "2"]), ("GPU-8a,1", None)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)  # which is cut at the first that is no GPU
        assert processes._gpus() == (visible.split(",") if there is None else there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(processes, "_DEVICES", tmp_path)
    for name in ("nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):  # of a container, with the host's numbers
        (tmp_path / name).touch()
    assert processes._gpus() == ["0", "1"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert processes.shares(3) == [Share((2,)), Share((5,)), Share((7,))]
    with pytest.raises(UsageError, match="--jobs=4 is more than the 3 cores"):
        processes.shares(4)


@pytest.mark.slow
def test_a_process_that_can_not_run_says_why(tmp_path, tiny_config):
    """A real one: it takes its settings and its cores, and what it says is told."""
    core = min(os.sched_getaffinity(0))
    run = Run(tiny_config(equivariance__num_groups=5), tmp_path / "run")
    (ended,) = processes.make([run], [Share((core,))])
    assert ended.run == run and ended.problem.startswith("config.equivariance.num_groups is 5, which does not divide")
