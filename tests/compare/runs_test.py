"""Which folders are runs, and what is read of them where files are missing or damaged."""

import gzip
import json

import pytest

from care_jax.command_line import UsageError
from care_jax.compare import runs
from care_jax.errors import UserError


def test_runs_are_found_by_name_by_pattern_and_by_the_folder_that_they_lie_in(make_run, tmp_path):
    made = [make_run(f"sweep/weight={weight}/seed=0") for weight in ("0.3", "3", "10")]
    other = make_run("other[1]")
    (tmp_path / "sweep" / "sweep.md").write_text("")
    (tmp_path / "empty").mkdir()
    assert runs.find([str(tmp_path / "sweep")]) == (made, [])
    found, notes = runs.find([str(tmp_path / "*"), str(other), str(other / "summary.json"), f"{other}/../other[1]"])
    assert found == [other, *made]
    assert notes[0] == f"left out, because there is no run there: {tmp_path / 'empty'}"
    assert notes[1].startswith("named more than once, taken once: ") and len(notes) == 2


@pytest.mark.parametrize("word", ["none", "none*", "gs://bucket/run", "empty", "file"])
def test_no_run_is_one_line(tmp_path, word):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"there is no such folder|no run in|is an address"):
        runs.find([word if "gs" in word else str(tmp_path / word)])


def test_what_is_damaged_is_said_and_counts_as_missing(make_run):
    workdir = make_run("a")
    whole = runs.read(workdir)
    assert whole.step == 6 and len(whole.rows) == 3 and whole.summary["knn_top1"] == 50.0 and whole.notes == ()
    with (workdir / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\n{}\n")
    (workdir / "data.json.gz").write_bytes(b"no gzip")
    (workdir / "summary.json").write_bytes(b"[" * 100_000)
    damaged = runs.read(workdir)
    assert damaged.rows == whole.rows and damaged.settings == whole.settings
    assert damaged.summary is None and damaged.data is None
    assert [any(name in note for note in damaged.notes) for name in ("metrics", "data", "summary")] == [True] * 3
    (workdir / "data.json.gz").write_bytes(gzip.compress(b"{}"))
    (workdir / "summary.json").write_text("{}")
    assert runs.read(workdir).data and "no summary" in runs.read(workdir).notes[0]
    (workdir / "metrics.jsonl").unlink()
    assert "no curves" in runs.read(workdir).notes[1]
    (workdir / "config.json").write_text("[]")
    with pytest.raises(UsageError, match=r"a has no settings .*config\.json can't be read"):
        runs.read(workdir)


def test_settings_are_those_of_the_numbers_and_old_runs_have_what_they_did(make_run):
    workdir = make_run("a", seed=3)
    config = json.loads((workdir / "config.json").read_text())
    del config["extensions"], config["evaluate"]["monitor"]
    config["evaluate"]["knn_k"] = 1
    (workdir / "summary.json").write_text(json.dumps({"steps": 6, "config": config}))
    settings = runs.read(workdir).settings
    assert settings["evaluate.knn_k"] == 1 and settings["extensions"] == [] and settings["evaluate.monitor"] == ["knn"]
    for odd, noted in (
        ({}, False),
        ({"train": 3, "evaluate": 2}, False),
        (config | {"extensions": ["no_such_module"]}, True),
    ):
        (workdir / "summary.json").write_text(json.dumps({"steps": 6, "config": odd}))
        assert any("as they were written down" in note for note in runs.read(workdir).notes) == noted
