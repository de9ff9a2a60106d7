"""What a table says: what could not be measured is a dash, and what a difference is worth is told by the spread."""

import json
import math

import pytest

from care_jax.command_line import UsageError
from care_jax.configs import proteins
from care_jax.sweep.table import Row, Table, as_json, comparisons, configured, markdown

ROWS = {"plain": Row(("SimCLR",), {}), "care": Row(("CARE",), {}, against="plain")}


def _table(*columns):
    return Table(("method",), ROWS, columns, columns)


def test_null_and_absent_are_dashes():
    summaries = [{"knn_top1": 90.0, "uniformity": None}, {"knn_top1": 92.0, "uniformity": -1.0}]
    lines = markdown(_table("knn_top1", "uniformity", "hue_probe_top1"), {"plain": summaries}).splitlines()
    assert lines[0] == "| method | n | kNN (%) ↑ | uniformity ↓ | hue probe (%) |"
    assert lines[2] == "| SimCLR | 2 | 91.0 ± 1.4 | – | – |" and len(lines) == 3


def test_numbers_that_are_none_are_null_in_json():
    summaries = [{"knn_top1": math.nan, "uniformity": -1.0, "steps": 3, "params_sha256": "ab"}, {"knn_top1": 92.0}]
    (row,) = json.loads(as_json(_table("knn_top1", "uniformity"), {"plain": summaries}))["rows"].values()
    assert row["runs"] == [
        {"knn_top1": None, "uniformity": -1.0, "steps": 3, "params_sha256": "ab"},
        {"knn_top1": 92.0, "uniformity": None, "steps": None, "params_sha256": None},
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ([0.1, 0.12], [0.4, 0.44], "0.1100 ± 0.0141 against 0.4200 ± 0.0283, better."),
        ([0.4, 0.44], [0.1, 0.12], "0.4200 ± 0.0283 against 0.1100 ± 0.0141, worse."),
        ([0.1, 0.3], [0.2, 0.3], "0.2000 ± 0.1414 against 0.2500 ± 0.0707, better by less than the seeds' standard"),
        ([0.1], [0.2], "0.1000 against 0.2000, better (a single seed tells no spread)."),
        ([0.1], [0.1], "0.1000 against 0.1000, the same (a single seed tells no spread)."),
        ([0.1, None], [0.2, 0.2], "– against 0.2000 ± 0.0000, not measured in every run."),
    ],
)
def test_a_comparison_is_a_sentence(ours, theirs, told):
    results = {
        name: [{"relative_equivariance_median": value} for value in values]
        for name, values in (("plain", theirs), ("care", ours))
    }
    (line,) = comparisons(_table("relative_equivariance_median"), results)
    assert line.startswith(f"care against plain: relative equivariance, median {told}")


def test_no_direction_is_no_judgement():
    results = {name: [{"hue_probe_top1": value}] * 2 for name, value in (("plain", 50.0), ("care", 60.0))}
    (line,) = comparisons(_table("hue_probe_top1"), results)
    assert line == "care against plain: hue probe 60.0 ± 0.0 against 50.0 ± 0.0 %, higher."


def test_a_row_without_the_other_is_not_compared():
    assert comparisons(_table("knn_top1"), {"care": [{"knn_top1": 1.0}]}) == []


def test_a_setting_of_the_other_kind_is_one_line():
    with pytest.raises(UsageError, match=r"^this table sets model.stem, a setting of images alone: give a config"):
        configured(proteins.get_config(), {"model.stem": "cifar"}, 0)
