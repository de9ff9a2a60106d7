"""Encoders on other data: an untrained run is judged as an untrained encoder is; columns, verdicts and the picture."""

import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from care_jax import trained
from care_jax.command_line import UsageError
from experiments import transfer
from experiments.finished import FinishedTable

SHARE = "rotation_share_explained"


def test_columns_without_labels_are_left_out_and_the_runs_own_stay():
    nothing = dict.fromkeys(transfer.THERE, math.nan)
    numbers = {"care": {"0": nothing | {SHARE: 0.5, f"own_{SHARE}": 0.8, "own_linear_probe_top1": 90.0}}}
    measures = transfer.measures_of(numbers)
    assert list(measures) == ["own_linear_probe_top1", SHARE, f"own_{SHARE}"]
    assert measures[f"own_{SHARE}"].heading.endswith(", on its own data")


def test_the_picture_has_a_point_a_run_and_a_band_of_untrained_ones():
    numbers = {
        "care": {"0": {SHARE: 0.5, f"own_{SHARE}": 0.8}, "1": {SHARE: 0.6, f"own_{SHARE}": 0.9}},
        "untrained": {"0": {SHARE: 0.1}, "1": {SHARE: 0.2}},
    }
    (axis,) = transfer.picture(numbers, "fashion").axes
    assert axis.lines[0].get_xdata().tolist() == [0.8, 0.9] and axis.lines[0].get_ydata().tolist() == [0.5, 0.6]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["care", "before training"]
    assert axis.patches[0].get_y() == 0.1 and axis.patches[0].get_height() == pytest.approx(0.1)
    assert axis.get_ylabel() == "on fashion"


def test_no_share_is_cut_off_the_picture():
    numbers = {"care": {"0": {SHARE: -0.6, f"own_{SHARE}": 0.8}}, "untrained": {"0": {SHARE: math.nan}}}
    (axis,) = transfer.picture(numbers, "fashion").axes
    assert axis.get_ylim()[0] < -0.6


@pytest.mark.slow
def test_a_run_before_its_first_step_is_the_untrained_encoder(table_of_images, capsys):
    """The fixture's row `care` is as it was drawn, its row `simclr` is not."""
    table = FinishedTable(table_of_images)
    found = transfer.analyse(table, "digits")
    assert list(found.numbers) == ["care", "untrained", "simclr"]
    for name in transfer.THERE:
        of = {row: found.numbers[row]["0"][name] for row in found.numbers}
        assert of["care"] == of["untrained"] and not math.isnan(of["simclr"])
    assert found.numbers["care"]["0"] != found.numbers["simclr"]["0"]
    assert [used["row"] for used in table.used] == ["care", "simclr"]
    assert found.details["test"] == 359 and any(line.startswith("care against untrained: ") for line in found.said)
    assert "digits: " in capsys.readouterr().err
    judge = transfer.Judge(transfer.config_on(trained.config_of(table.folders["care"]["0"]), "digits"), "digits")
    same, other = (jax.tree.leaves(judge.untrained(seed)["params"]) for seed in (0, 1))
    drawn = jax.tree.leaves(trained.load(table.folders["care"]["0"]).encoder_variables["params"])
    assert all(np.array_equal(x, y) for x, y in zip(same, drawn, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(other, drawn, strict=True))
    with pytest.raises(UsageError, match=r"^--on is missing: a data set, a configuration file or a folder"):
        transfer.analyse(FinishedTable(table_of_images), "")
    with pytest.raises(UsageError, match=r"^--on=nothing is no data set"):
        transfer.analyse(FinishedTable(table_of_images), "nothing")


@pytest.mark.slow
def test_the_untrained_encoder_is_as_the_run_began_where_that_was_from_weights(table_of_images):
    folders = FinishedTable(table_of_images).folders
    config = trained.config_of(folders["care"]["0"])
    config.model.init_from = str(folders["simclr"]["0"])
    judge = transfer.Judge(transfer.config_on(config, "digits"), "digits")
    given = trained.load(folders["simclr"]["0"]).encoder_variables["params"]
    found = judge.untrained(0)["params"]
    for part, same in (("backbone", True), ("head", False)):
        pairs = zip(jax.tree.leaves(found[part]), jax.tree.leaves(given[part]), strict=True)
        assert all(np.array_equal(x, y) for x, y in pairs) == same


@pytest.mark.slow
def test_a_summary_of_another_step_than_the_encoder_is_refused(table_of_images, tmp_path):
    shutil.copytree(table_of_images / "care_seed_0", tmp_path / "care_seed_0")
    (tmp_path / "care_seed_0" / "summary.json").write_text(json.dumps({"steps": 7}))
    with pytest.raises(
        UsageError, match=r"care_seed_0: summary.json is of step 7, the newest checkpoint of 0: care-jax"
    ):
        transfer.of_table(FinishedTable(tmp_path), "digits")


def test_encoders_that_see_otherwise_are_not_judged_together(tiny_config):
    judge = transfer.Judge.__new__(transfer.Judge)
    judge._config = tiny_config()
    judge.check_like(tiny_config(evaluate__monitor=("knn",), equivariance__weight=0.7), Path("there"))
    with pytest.raises(
        UsageError, match=r"^there sees or draws otherwise .*\(config.model.width: 4 -> 8\); judge them"
    ):
        judge.check_like(tiny_config(model__width=8), Path("there"))
