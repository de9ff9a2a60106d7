"""Ranks that seeds leave open: against Tukey's test by hand, by direction, with no spread; table and picture."""

import itertools

import numpy as np
import pytest
from scipy.stats import studentized_range

from care_jax.sweep.table import Row, Table
from experiments import ranking

VALUES = {
    "low": np.array([10.0, 11.0, 12.0]),
    "high": np.array([90.0, 91.0, 92.0]),
    "middle": np.array([89.0, 90.5, 91.0]),
}


def test_rows_are_apart_where_tukeys_range_says_so():
    found = ranking.ranking(VALUES, "higher")
    assert list(found.means) == ["high", "middle", "low"] and found.pairs == 3
    pooled = np.sqrt(np.mean([values.var(ddof=1) for values in VALUES.values()]))
    width = studentized_range.ppf(0.95, 3, 6) * pooled / np.sqrt(3)
    apart = {
        frozenset(pair)
        for pair in itertools.combinations(VALUES, 2)
        if abs(VALUES[pair[0]].mean() - VALUES[pair[1]].mean()) > width
    }
    assert {frozenset(pair) for pair in found.within_noise} == {frozenset(("high", "middle"))}
    assert len(apart) == 2
    for half in found.half_widths.values():
        assert half == pytest.approx(width / 2, rel=1e-4)
    assert found.ranks == {"high": (1, 2), "middle": (1, 2), "low": (3, 3)}


def test_lower_may_be_better_and_then_the_order_is_turned():
    found = ranking.ranking(VALUES, "lower")
    assert list(found.means) == ["low", "middle", "high"]
    assert found.ranks == {"low": (1, 1), "middle": (2, 3), "high": (2, 3)}


def test_with_no_spread_what_differs_differs():
    found = ranking.ranking({"a": np.array([1.0, 1.0]), "b": np.array([1.0, 1.0]), "c": np.array([2.0, 2.0])}, "higher")
    assert found.ranks == {"c": (1, 1), "a": (2, 3), "b": (2, 3)} and found.within_noise == [("a", "b")]


@pytest.mark.parametrize("values", [{"a": np.ones(3)}, {"a": np.ones(3), "b": np.ones(1)}])
def test_one_row_or_one_seed_has_no_rank(values):
    with pytest.raises(ValueError, match="two rows or more, and two seeds or more"):
        ranking.ranking(values, "higher")


ROWS = {name: Row((name, "–"), {}) for name in ("low", "high", "middle")}
TABLE = Table(("base", "term"), ROWS, ("knn_top1",), ())


def _results(**changed):
    taken = {row: [{"knn_top1": value} for value in values] for row, values in VALUES.items()}
    return taken | changed


def test_the_table_has_the_ranks_and_says_how_much_is_noise():
    found = ranking.rankings(TABLE, _results(), {"knn_top1": "higher", "displacement_mean": "higher"})
    assert list(found) == ["knn_top1"]  # nobody has the other
    text = ranking.markdown(TABLE, found)
    assert "| low | – | 3 |" in text and "| high | – | 1–2 |" in text
    assert text.endswith("1 of 3 differences are within the noise")
    (axis,) = ranking.picture(TABLE, found).axes
    assert axis.containers[0].lines[0].get_xdata().tolist() == pytest.approx([91.0, 90.1667, 11.0], abs=1e-3)
    assert axis.containers[0].lines[0].get_ydata().tolist() == [1, 2, 0]
    five = ranking.picture(
        TABLE, dict.fromkeys(["knn_top1", "uniformity", "wahba_mean", "steps", "alignment"], found["knn_top1"])
    )
    assert len(five.axes) == 5
    assert [tick.get_text() for tick in five.axes[4].get_yticklabels()] == ["low –", "high –", "middle –"]


def test_a_row_that_lacks_a_number_has_no_rank():
    found = ranking.rankings(TABLE, _results(low=[{"knn_top1": None}, {"knn_top1": 3.0}]), {"knn_top1": "higher"})
    assert set(found["knn_top1"].ranks) == {"high", "middle"}
    assert "| low | – | – |" in ranking.markdown(TABLE, found)
    single = {row: taken[:1] for row, taken in _results().items()}
    assert ranking.markdown(TABLE, ranking.rankings(TABLE, single, {"knn_top1": "higher"})).startswith("No ranking: ")


def test_a_score_is_the_mean_of_measures_and_none_where_one_is_missing():
    assert ranking.score({"knn_top1": 80, "hue_probe_top1": 40.0}, ("knn_top1", "hue_probe_top1")) == 60.0
    assert np.isnan(ranking.score({"knn_top1": 80, "hue_probe_top1": None}, ("knn_top1", "hue_probe_top1")))
