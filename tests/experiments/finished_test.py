"""Which finished runs a table has, and what they are compared with."""

import json
from unittest.mock import MagicMock, Mock

import pytest

from care_jax.command_line import UsageError
from care_jax.evaluate import plots
from experiments import finished
from experiments.finished import FinishedTable


def _run(folder, done=True):
    folder.mkdir(parents=True)
    if done:
        (folder / "summary.json").write_text("{}")


def test_runs_in_order_and_what_is_not_finished_is_said(tmp_path, capsys):
    for name in ("b_seed_10", "b_seed_2", "a_seed_0"):
        _run(tmp_path / name)
    _run(tmp_path / "c_seed_0", done=False)
    for name in ("b_seed_2_old", "b_seed_"):  # copies by hand are no further seeds
        _run(tmp_path / name)
    table = FinishedTable(tmp_path, "b")
    assert {row: list(seeds) for row, seeds in table.folders.items()} == {"a": ["0"], "b": ["2", "10"]}
    assert table.against == "b"
    said = capsys.readouterr().err
    assert "c_seed_0 has no summary.json: it is not finished, and is passed over" in said
    assert "b_seed_2_old ends in no seed: it is no run of the table, and is passed over" in said


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"no finished run in .*; --workdir is a table's folder"):
        FinishedTable(tmp_path)
    _run(tmp_path / "a_seed_0")
    with pytest.raises(UsageError, match=r"--against=b is no row of .*; there are a"):
        FinishedTable(tmp_path, "b")
    for number in range(len(plots.PALETTE)):
        _run(tmp_path / f"{number}_seed_0")
    with pytest.raises(UsageError, match="has 8 rows, more than the 7 that colours tell apart"):
        FinishedTable(tmp_path, "a")


def test_some_rows_of_a_table_with_more_than_there_are_colours(tmp_path, capsys):
    for row in ("plain", *map(str, range(len(plots.PALETTE)))):
        _run(tmp_path / f"{row}_seed_0")
    _run(tmp_path / "half_seed_0", done=False)
    _run(tmp_path / ".plain_seed_0.copy")  # the draft of a copy, left by a kill
    with pytest.raises(UsageError, match=r"colours tell apart: choose some, --only=0,1 for instance; there are 0, 1, "):
        FinishedTable(tmp_path, "plain")
    assert ".copy" not in capsys.readouterr().err
    table = FinishedTable(tmp_path, "plain", ["plain", "3"])
    assert list(table.folders) == ["3", "plain"] and table.against == "plain"
    assert capsys.readouterr().err == ""  # of rows that were not asked for nothing is said
    with pytest.raises(UsageError, match=r"^--only=c is no row of .* that has a run; there are 0, 1, .*plain$"):
        FinishedTable(tmp_path, "plain", ["plain", "c"])
    with pytest.raises(UsageError, match=r"^--against=plain is no row of --only; there are 3$"):
        FinishedTable(tmp_path, "plain", ["3"])
    with pytest.raises(UsageError, match=r"^--only has 8 rows, more than the 7 "):
        FinishedTable(tmp_path, "plain", [*map(str, range(len(plots.PALETTE))), "plain"])
    assert FinishedTable(tmp_path, None, ["3", "4"]).against == ""


def test_the_row_of_plain_simclr_is_kept_where_it_is_among_those_chosen(tmp_path, capsys):
    for row, weight in (("care", 0.1), ("more", 1.0), ("plain", 0.0)):
        _run(tmp_path / f"{row}_seed_0")
        config = {"loss": {"method": "simclr"}, "equivariance": {"weight": weight}}
        (tmp_path / f"{row}_seed_0" / "summary.json").write_text(json.dumps({"steps": 1, "config": config}))
    assert FinishedTable(tmp_path, "", ["care", "plain"]).against == "plain" and capsys.readouterr().err == ""
    assert FinishedTable(tmp_path, "", ["care", "more"]).against == ""
    assert "no row of --only is plain SimCLR, and nothing is compared" in capsys.readouterr().err


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Steps of the checkpoints of two runs, and what they draw, in the place of runs that are read."""

    def write(first, second, *, draws=("a", "a")):
        drawn = {}
        for row, of_row, own in zip("ab", (first, second), draws, strict=True):
            _run(tmp_path / f"{row}_seed_0")
            for step in of_row:
                (tmp_path / f"{row}_seed_0" / "checkpoints" / str(step)).mkdir(parents=True)
            drawn[f"{row}_seed_0"] = own
        config = MagicMock()
        monkeypatch.setattr(finished, "stored_side", lambda config: 8)
        monkeypatch.setattr(finished, "of_clouds", lambda config: False)
        monkeypatch.setattr(finished, "check_data", lambda folder, dataset: None)
        monkeypatch.setattr(finished, "EmbeddedDataSet", MagicMock())
        monkeypatch.setattr(finished, "make_embedder", MagicMock())
        monkeypatch.setattr(finished, "build", MagicMock())
        opened = []

        def config_of(folder):
            opened.append(drawn[folder.name])
            return config

        def make(config, mesh, dataset):
            assert mesh.size == 1  # so that devices need not divide what the run trained on
            made = Mock(plan=Mock(equivariance="the same", invariance=opened[-1]))
            made._replace = lambda **_: made
            return made

        finished.build.build = make
        newest = {"a_seed_0": max(first), "b_seed_0": max(second)}
        monkeypatch.setattr(finished.trained, "config_of", config_of)
        monkeypatch.setattr(
            finished.trained,
            "load",
            lambda folder, step: Mock(step=int(step or newest[folder.name]), info={"params_sha256": ""}),
        )
        return FinishedTable(tmp_path, None)

    return write


@pytest.mark.parametrize("every_checkpoint", [False, True])
def test_runs_whose_newest_steps_differ_are_said_to_be_unlike(steps, every_checkpoint, capsys):
    table = steps([2, 4, 6], [2, 4])
    assert [run.model.step for run in table.runs(every_checkpoint=every_checkpoint)] == (
        [2, 4, 6, 2, 4] if every_checkpoint else [6, 4]
    )
    said = [line for line in capsys.readouterr().err.splitlines() if "unlike things" in line]
    assert len(said) == 1 and "b_seed_0 is of step 4, " in said[0] and "a_seed_0 of 6: unlike things" in said[0]


@pytest.mark.parametrize("every_checkpoint", [False, True])
def test_runs_of_one_length_are_not(steps, every_checkpoint, capsys):
    list(steps([2, 6], [3, 4, 6]).runs(every_checkpoint=every_checkpoint))
    assert capsys.readouterr().err == ""


def test_draws_of_the_branch_that_is_looked_at_are_compared(steps, capsys):
    table = steps([6], [6], draws=("a", "b"))
    list(table.runs())
    assert capsys.readouterr().err == ""
    list(table.runs(branch="invariance"))
    assert "b_seed_0 draws other augmentations than the first run" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_share_what_is_compiled_and_other_data_is_refused(table_of_images, table_of_clouds, tmp_path):
    one, other = FinishedTable(table_of_images).runs()
    assert one.embedded.embedder is other.embedded.embedder
    assert one.embedded.experiment.dataset is other.embedded.experiment.dataset
    (tmp_path / "care_seed_0").symlink_to(table_of_images / "care_seed_0")
    (tmp_path / "clouds_seed_0").symlink_to(table_of_clouds / "care_seed_0")
    with pytest.raises(UsageError, match="clouds_seed_0 is of other data or sizes than the runs before it"):
        list(FinishedTable(tmp_path, "care").runs())
