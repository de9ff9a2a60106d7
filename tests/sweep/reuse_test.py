"""Runs of other tables are taken over where their settings are those of a missing run, and no others."""

import json

import pytest

from care_jax.command_line import UsageError
from care_jax.sweep.reuse import take_over
from care_jax.sweep.runs import Run
from care_jax.sweep.table import Row, Table
from care_jax.sweep.tables import run_table


def test_a_table_makes_only_what_no_other_has(made, finish, tmp_path, tiny_config, capsys):
    other = tmp_path / "other"
    finish(tiny_config(equivariance__weight=0.5, seed=1, train__log_every=3), other / "care_seed_1")
    finish(tiny_config(equivariance__weight=0.3, seed=0), other / "third_seed_0")
    (other / "care_seed_1" / "checkpoints" / "6").mkdir(parents=True)
    for name in ("checkpoints/6/part", "loggers.json", "lock"):
        (other / "care_seed_1" / name).write_text("7")
    rows = {name: Row((name,), {"equivariance.weight": weight}) for name, weight in (("plain", 0.0), ("with", 0.5))}
    run_table(Table(("row",), rows, ("knn_top1",), ()), tiny_config(), tmp_path / "new", seeds=2, reuse=[other])
    assert made == ["plain_seed_0", "plain_seed_1", "with_seed_0"]
    assert {path.name for path in (tmp_path / "new" / "with_seed_1").iterdir()} == {
        "checkpoints", "config.json", "data.json.gz", "summary.json",
    }  # fmt: skip
    assert (tmp_path / "new" / "with_seed_1" / "checkpoints" / "6" / "part").read_text() == "7"
    assert (other / "care_seed_1" / "lock").exists()
    said = capsys.readouterr().err
    assert "new/with_seed_1 has the settings of" in said and "not taken over" not in said


def test_what_is_there_stays_and_what_was_left_half_is_no_run(finish, tmp_path, tiny_config):
    config = tiny_config()
    finish(config, tmp_path / "other" / "a_seed_0")
    (tmp_path / "new" / "begun").mkdir(parents=True)
    (tmp_path / "new" / ".missing.copy").mkdir()
    (tmp_path / "new" / ".missing.copy" / "half").write_text("")
    runs = [Run(config, tmp_path / "new" / name) for name in ("begun", "missing")]
    assert take_over(runs, [tmp_path / "other"]) == 1
    assert not list((tmp_path / "new" / "begun").iterdir())
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"begun", "missing"}
    assert not (tmp_path / "new" / "missing" / "half").exists()


def test_the_draft_of_a_copy_is_no_run(finish, tmp_path, tiny_config, capsys):
    """A copy that was killed leaves it; it may lack what is copied last, and would be taken first."""
    config = tiny_config()
    finish(config, tmp_path / ".a_seed_0.copy")
    with pytest.raises(UsageError, match="has no finished run"):
        take_over([Run(config, tmp_path / "new")], [tmp_path])
    finish(config, tmp_path / "a_seed_0")
    assert take_over([Run(config, tmp_path / "new")], [tmp_path]) == 1
    assert ".copy" not in capsys.readouterr().err


def test_what_cannot_be_read_or_is_of_another_step_is_passed_over_with_a_line(finish, tmp_path, tiny_config, capsys):
    config = tiny_config()
    for seed in range(3):
        finish(config, tmp_path / f"a_seed_{seed}")
    (tmp_path / "a_seed_0" / "summary.json").write_text("{")
    path = tmp_path / "a_seed_1" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": 4}))
    assert take_over([Run(config, tmp_path / "new")], [tmp_path]) == 1
    said = capsys.readouterr().err
    assert "a_seed_0 is not taken over: " in said and "a_seed_1 is not taken over: " in said
    assert "has the settings of " in said and "a_seed_2, and is a copy" in said


def test_a_folder_without_a_finished_run_is_one_line(tmp_path, tiny_config):
    with pytest.raises(UsageError, match=r"^--reuse=.* has no finished run; give a table's folder"):
        take_over([Run(tiny_config(), tmp_path / "new")], [tmp_path])
