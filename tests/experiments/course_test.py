"""Courses from rows of metrics.jsonl, and which rows are of equal accuracy."""

import json
import subprocess
import sys

import pytest

from care_jax.command_line import UsageError
from experiments import course
from experiments.finished import FinishedTable

SHARE, ACCURACY, ERROR = "rotation_share_explained", "knn_top1", "principal_component_error"


def _course(*values, name=ACCURACY):
    return {10 * (i + 1): {name: value, SHARE: i / 10} for i, value in enumerate(values)}


@pytest.fixture
def table(tmp_path):
    """SimCLR learns fast and loses the share; CARE is slower and keeps it. Rows of the loss lie between."""
    for name, accuracies, shares in (
        ("simclr_seed_0", (50.0, 80.0, 95.0), (0.5, 0.2, 0.0)),
        ("simclr_seed_1", (52.0, 82.0, 94.0), (0.5, 0.3, 0.1)),
        ("care_seed_0", (40.0, 60.0, 90.0), (0.9, 0.9, 0.8)),
        ("care_seed_1", (41.0, 62.0, 91.0), (0.9, 0.8, 0.7)),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"steps": 30, "params_sha256": name}))
        rows = [{"step": 5, "loss": 4.0}]
        for i, (accuracy, share) in enumerate(zip(accuracies, shares, strict=True), 1):
            rows += [{"step": 10 * i, ACCURACY: accuracy}, {"step": 10 * i, SHARE: share, "loss": 3.0}]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FinishedTable(tmp_path, "simclr")


def test_rows_of_one_step_are_one_and_the_later_number_counts():
    rows = [{"step": 9, "a": 1.0}, {"step": 3, "a": 2.0, "z": 0.0}, {"step": 9, "b": 5.0}, {"step": 9, "a": 4.0}]
    assert course.joined(rows, ("a", "b")) == {3: {"a": 2.0}, 9: {"a": 4.0, "b": 5.0}}
    assert course.whole(course.joined(rows, ("a", "b")), ("a", "b")) == {9: {"a": 4.0, "b": 5.0}}


def test_the_first_row_that_is_as_good():
    assert course.first_at(_course(50.0, 80.0, 70.0, 90.0), ACCURACY, 75.0) == 20
    assert course.first_at(_course(50.0, 80.0), ACCURACY, 80.0) == 20
    assert course.first_at(_course(50.0, 80.0), ACCURACY, 80.1) is None
    assert course.first_at(_course(0.9, 0.5, 0.7, name=ERROR), ERROR, 0.6) == 20  # lower is better


def test_levels_are_such_as_every_run_reaches():
    courses = {"a": {"0": _course(50.0, 95.04)}, "b": {"0": _course(40.0, 80.0, 79.0)}}
    levels = course.levels_of(courses, ACCURACY)
    assert levels == [60.0, 70.0, 80.0]
    flat = {"a": {"0": _course(90.0, 91.0)}, "b": {"0": _course(40.0, 80.0)}}
    assert course.levels_of(flat, ACCURACY) == [80.0]
    errors = {"a": {"0": _course(0.9, 0.3, name=ERROR)}, "b": {"0": _course(0.8, 0.2, name=ERROR)}}
    levels = course.levels_of(errors, ERROR)
    assert levels[0] > levels[-1] == pytest.approx(0.3)
    assert all(course.first_at(errors["a"]["0"], ERROR, level) for level in levels)


def test_at_equal_accuracy_the_verdict_is_another_than_at_equal_steps(table):
    found = course.analyse(table, levels=[60.0, 93.0])
    assert found.numbers["simclr"] == {"0": {ACCURACY: 95.0, SHARE: 0.0}, "1": {ACCURACY: 94.0, SHARE: 0.1}}
    at_60 = found.details["levels"]["60"]
    assert at_60["care"]["0"] == {"step": 20.0, ACCURACY: 60.0, SHARE: 0.9}
    assert at_60["simclr"]["1"] == {"step": 20.0, ACCURACY: 82.0, SHARE: 0.3}
    (sentence,) = [line for line in found.said if "against" in line]
    assert sentence.startswith("At a kNN of 60 %, care against simclr: share explained by a rotation 0.850")
    assert sentence.endswith("better, beyond the spread of the seeds.")
    assert "care is not compared: 2 of its seeds never reach it." in found.said
    assert [used["params_sha256"] for used in table.used][:1] == ["care_seed_0"]
    share, accuracy = found.figure.axes
    assert list(share.lines[0].get_ydata()) == pytest.approx([0.9, 0.85, 0.75]) and len(accuracy.lines) == 2


def test_a_loss_of_the_name_of_a_measure_is_none(table):
    path = table.workdir / "care_seed_0" / "summary.json"
    path.write_text(json.dumps({"steps": 30, "params_sha256": "", "config": {"loss": {"method": SHARE}}}))
    courses = course.courses_of(table, (ACCURACY, SHARE))
    assert courses["care"]["0"][10] == {ACCURACY: 40.0} and SHARE in courses["care"]["1"][10]
    found = course.analyse(table)
    assert list(found.measures) == [ACCURACY] and found.compared == ()
    assert f"Left out, for not every run has it among its monitors: {SHARE}." in found.said


def test_runs_of_other_data_are_refused_and_other_evaluations_said(table, capsys):
    def config(folder, data="digits", k=20):
        settings = {"loss": {"method": "simclr"}, "data": {"name": data}, "evaluate": {"knn_k": k}}
        summary = {"steps": 30, "params_sha256": "", "config": settings}
        (table.workdir / folder / "summary.json").write_text(json.dumps(summary))

    config("care_seed_0")
    config("care_seed_1", k=5)
    course.courses_of(table, (ACCURACY,))
    said = capsys.readouterr().err
    assert (
        "care_seed_1 is judged otherwise than care_seed_0: evaluate.knn_k is 5, not 20; knn_top1 of both are unlike"
    ) in said
    assert "settings of simclr_seed_0, simclr_seed_1 are not known, and not compared with the others'" in said
    config("simclr_seed_0", data="fashion")
    with pytest.raises(UsageError, match=r"simclr_seed_0 is of other data than .*care_seed_0; look at them apart"):
        course.courses_of(table, (ACCURACY,))


def test_runs_of_other_steps_and_monitors_that_end_early_are_said(table, capsys):
    path = table.workdir / "simclr_seed_1" / "summary.json"
    path.write_text(json.dumps({"steps": 60, "params_sha256": ""}))
    course.courses_of(table, (ACCURACY,))
    said = capsys.readouterr().err
    assert "simclr_seed_1 is of step 60, " in said and "care_seed_0 of 30: unlike things" in said
    assert "simclr_seed_1: its monitors end at step 30, and its summary is of step 60" in said
    assert said.count("unlike things") == said.count("its monitors end") == 1


def test_mistakes_are_one_line(table):
    with pytest.raises(UsageError, match="knn is no measure"):
        course.analyse(table, "knn")
    said = course.analyse(table, "linear_probe_top1").said
    assert said == ("No comparison at equal accuracy: not every run has linear_probe_top1 among its monitors.",)
    (table.workdir / "care_seed_1" / "metrics.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"care_seed_1 has none of knn_top1, .* in its metrics.jsonl"):
        course.analyse(table)
    (table.workdir / "care_seed_0" / "summary.json").write_text("[]")
    with pytest.raises(UsageError, match=r"care_seed_0/summary.json can't be read \(it is no summary of a run\)"):
        course.analyse(table)


@pytest.mark.slow
def test_the_command_writes_its_files_and_says_its_verdict(table, tmp_path):
    given = [f"--workdir={table.workdir}", "--against=simclr", f"--out={tmp_path / 'out'}", "--levels=60"]
    command = [sys.executable, "-m", "experiments.course", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| row | n | ") and "At a kNN of 60 %, care against simclr: " in done.stdout
    assert (tmp_path / "out" / "course.png").read_bytes().startswith(b"\x89PNG")
    read = json.loads((tmp_path / "out" / "course.json").read_text())
    assert read["against"] == "simclr" and len(read["runs"]) == 4 and set(read["details"]) == {"courses", "levels"}
    assert not (table.workdir / "course.json").exists()
