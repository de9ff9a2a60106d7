"""What could not be measured is a dash in a table, not a crash."""

import math

from experiments.runs import mean, table


def test_null_is_a_dash():
    summaries = [{"knn_top1": 90.0, "uniformity": None}, {"knn_top1": 92.0, "uniformity": -1.0}]
    text = table(["method"], {("SimCLR",): summaries}, ["knn_top1", "uniformity"])
    assert text.splitlines()[-1] == "| SimCLR | 91.0 ± 1.4 | – |"
    assert text.splitlines()[0] == "| method | kNN % ↑ | uniformity ↓ |"
    assert mean(summaries, "knn_top1") == 91 and math.isnan(mean(summaries, "uniformity"))


def test_one_seed_has_no_spread():
    text = table(["method", "weight"], {("SimCLR", "0"): [{"wahba_mean": 0.12345}]}, ["wahba_mean"])
    assert text.splitlines() == ["| method | weight | Wahba, mean ↓ |", "|---|---|---|", "| SimCLR | 0 | 0.1235 |"]
