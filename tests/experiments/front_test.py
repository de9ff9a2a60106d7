"""The picture of two abilities over training: which points, of which runs; mistakes are one line."""

import json
import subprocess
import sys

import pytest

from care_jax.command_line import UsageError
from experiments import front

NAMES = ("hue_knn_top1", "knn_top1")


@pytest.fixture
def table(tmp_path):
    """Two rows, one with two seeds; rows of the loss between those of the monitors."""
    for name, end in (("lambda_0_seed_0", 90.0), ("lambda_0_seed_1", 91.0), ("lambda_0.1_seed_0", 95.0)):
        (tmp_path / name).mkdir()
        rows = [{"step": 1, "loss": 4.0}, {"step": 5, "knn_top1": 50.0, "hue_knn_top1": 80.0}, {"step": 6, "loss": 3.0}]
        rows.append({"step": 9, "knn_top1": end, "hue_knn_top1": 40.0})
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "lambda_1_seed_0").mkdir()  # begun, nothing measured
    return tmp_path


def test_a_curve_a_run_in_the_order_of_its_steps(table):
    assert front.curves(table, *NAMES) == {
        "lambda_0": [[(80.0, 50.0), (40.0, 90.0)], [(80.0, 50.0), (40.0, 91.0)]],
        "lambda_0.1": [[(80.0, 50.0), (40.0, 95.0)]],
    }


def test_the_picture_marks_every_end_and_names_every_row_once(table):
    (axis,) = front.picture(front.curves(table, *NAMES), *NAMES).axes
    ends = [line.get_xydata().tolist() for line in axis.lines if len(line.get_xydata()) == 1]
    assert sorted(ends) == [[[40, 90]], [[40, 91]], [[40, 95]]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["lambda_0", "lambda_0.1"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("hue kNN, %", "kNN, %")


def test_a_folder_without_runs_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"no run in .* has rows of hue_knn_top1 and knn_top1"):
        front.curves(tmp_path, *NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("out", ["front.jpg", "front"])
def test_a_picture_of_another_kind_is_refused_and_nothing_is_written(table, out):
    command = [sys.executable, "-m", "experiments.front", f"--workdir={table}", f"--out={table / out}"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert f"--out={table / out}: give a file that ends in .png or .svg" in ended.stderr
    assert not (table / out).exists()
