"""The picture of two abilities over training: which points, of which runs; mistakes are one line."""

import json
import subprocess
import sys

import pytest

from care_jax.command_line import UsageError
from experiments import front
from experiments.finished import FinishedTable

NAMES = ("hue_knn_top1", "knn_top1")


@pytest.fixture
def table(tmp_path):
    """Two rows, one with two seeds; rows of the loss between those of the monitors. A run that is not finished."""
    for name, end in (("lambda_0_seed_0", 90.0), ("lambda_0_seed_1", 91.0), ("lambda_0.1_seed_0", 95.0)):
        (tmp_path / name).mkdir()
        rows = [{"step": 1, "loss": 4.0}, {"step": 5, "knn_top1": 50.0, "hue_knn_top1": 80.0}, {"step": 6, "loss": 3.0}]
        rows.append({"step": 9, "knn_top1": end, "hue_knn_top1": 40.0})
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        _finish(tmp_path / name)
    (tmp_path / "lambda_1_seed_0").mkdir()
    (tmp_path / "lambda_1_seed_0" / "metrics.jsonl").write_text(json.dumps(rows[1]) + "\n")
    return tmp_path


def _finish(folder, data="digits", hue=0.5):
    config = {"data": {"name": data}, "augment": {"equivariance": {"hue": hue}}, "evaluate": {"seed": hue}}
    (folder / "summary.json").write_text(json.dumps({"steps": 9, "params_sha256": "", "config": config}))


def _curves(folder, only=()):
    return front.curves(FinishedTable(folder, None, only), *NAMES)


def test_a_curve_a_run_in_the_order_of_its_steps(table, capsys):
    assert _curves(table) == {
        "lambda_0": [[(80.0, 50.0), (40.0, 90.0)], [(80.0, 50.0), (40.0, 91.0)]],
        "lambda_0.1": [[(80.0, 50.0), (40.0, 95.0)]],
    }
    said = capsys.readouterr().err
    assert "lambda_1_seed_0 has no summary.json: it is not finished, and is passed over" in said
    assert said.count("\n") == 1
    assert list(_curves(table, ["lambda_0.1"])) == ["lambda_0.1"] and capsys.readouterr().err == ""


def test_what_makes_runs_unlike_is_said_or_refused(table, capsys):
    _finish(table / "lambda_0.1_seed_0", hue=0.1)
    _curves(table)
    assert "lambda_0.1_seed_0 is judged otherwise than lambda_0_seed_0: evaluate.seed is 0.1" in capsys.readouterr().err
    _finish(table / "lambda_0.1_seed_0", data="fashion")
    with pytest.raises(UsageError, match=r"lambda_0.1_seed_0 is of other data than .*lambda_0_seed_0; look at them"):
        _curves(table)


def test_the_picture_marks_every_end_and_names_every_row_once(table):
    (axis,) = front.picture(_curves(table), *NAMES).axes
    ends = [line.get_xydata().tolist() for line in axis.lines if len(line.get_xydata()) == 1]
    assert sorted(ends) == [[[40, 90]], [[40, 91]], [[40, 95]]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["lambda_0", "lambda_0.1"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("hue kNN, %", "kNN, %")


def test_a_folder_without_runs_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"no finished run in .*; --workdir is a table's folder"):
        _curves(tmp_path)
    (tmp_path / "a_seed_0").mkdir()
    _finish(tmp_path / "a_seed_0")
    for rows, problem in (
        ([], "has none of hue_knn_top1, knn_top1"),
        ([{"step": 9, "knn_top1": 1.0}], "no row of both"),
    ):
        (tmp_path / "a_seed_0" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(UsageError, match=f"a_seed_0 (has )?{problem}.*--only"):
            _curves(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("out", ["front.jpg", "front"])
def test_a_picture_of_another_kind_is_refused_and_nothing_is_written(table, out):
    command = [sys.executable, "-m", "experiments.front", f"--workdir={table}", f"--out={table / out}"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert f"--out={table / out}: give a file that ends in .png or .svg" in ended.stderr
    assert not (table / out).exists()
