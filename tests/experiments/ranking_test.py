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


GAMMA = "relative_equivariance_median"
RATIOS = {
    "wide": np.array([0.3, 1.2, 0.6]),
    "narrow": np.array([0.02, 0.05, 0.03]),
    "least": np.array([0.001, 0.002, 0.004]),
}


def _gammas(**changed):
    rows = {name: Row((name,), {}) for name in RATIOS}
    taken = {row: [{GAMMA: value} for value in values] for row, values in (RATIOS | changed).items()}
    table = Table(("row",), rows, (GAMMA,), ())
    return table, ranking.rankings(table, taken, {GAMMA: "lower"})


def test_ratios_of_several_decades_are_ranked_by_their_logarithm():
    table, found = _gammas()
    assert found[GAMMA].ranks == {"least": (1, 1), "narrow": (2, 2), "wide": (3, 3)} and found[GAMMA].logarithmic
    assert ranking.ranking(RATIOS, "lower").within_noise  # as they are, the spread of one row hides the others
    by_hand = ranking.ranking({row: np.log10(values) for row, values in RATIOS.items()}, "lower")
    assert found[GAMMA].half_widths == by_hand.half_widths
    text = ranking.markdown(table, found)
    assert text.endswith("0 of 3 differences are within the noise (by the logarithm)")
    (axis,) = ranking.picture(table, found).axes
    assert axis.get_xscale() == "log"
    geometric = [float(np.exp(np.log(RATIOS[row]).mean())) for row in ("least", "narrow", "wide")]
    assert axis.containers[0].lines[0].get_xdata().tolist() == pytest.approx(geometric)
    (segments,) = axis.containers[0].lines[2]
    assert all(end[0] > 0.0 for segment in segments.get_segments() for end in segment)


def test_a_ratio_of_0_has_no_logarithm_and_this_is_said():
    table, found = _gammas(least=np.array([0.0, 0.002, 0.004]))
    assert found[GAMMA].at_most_0 == ("least",) and not found[GAMMA].logarithmic
    assert found[GAMMA].means["wide"] == pytest.approx(0.7)
    assert "within the noise (not by the logarithm, for least is 0 or below)\n" in ranking.markdown(table, found)
    (axis,) = ranking.picture(table, found).axes
    assert axis.get_xscale() == "linear"
    _, found = _gammas(least=np.array([np.nan, 0.002, 0.004]))  # no rank, as of any measure
    assert set(found[GAMMA].ranks) == {"wide", "narrow"} and found[GAMMA].logarithmic


def test_spreads_that_one_pooled_spread_does_not_fit_are_said():
    assert "standard deviations" not in ranking.markdown(
        TABLE, ranking.rankings(TABLE, _results(), {"knn_top1": "higher"})
    )
    some = _results(high=[{"knn_top1": value} for value in (50.0, 90.0, 91.0)])
    text = ranking.markdown(TABLE, ranking.rankings(TABLE, some, {"knn_top1": "higher"}))
    assert text.splitlines()[-1] == (
        "The seeds' standard deviations differ between rows beyond chance (Bartlett, 95% for all measures); pooled, "
        "they are too wide for some and too narrow for others: kNN (1 of low to 23 of high)."
    )
    flat = _results(low=[{"knn_top1": 10.0}] * 3)  # no spread, of which the test has no logarithm
    assert "standard deviations" not in ranking.markdown(TABLE, ranking.rankings(TABLE, flat, {"knn_top1": "higher"}))


def test_of_equal_spreads_chance_is_not_told_of():
    """A tenfold ratio of the extremes of 14 rows of three seeds is nothing."""
    draws = np.random.default_rng(0)
    told = [ranking._alike([*draws.normal(size=(14, 3))]) < 0.05 for _ in range(400)]
    assert np.mean(told) < 0.09


def test_a_score_is_the_mean_of_measures_and_none_where_one_is_missing():
    assert ranking.score({"knn_top1": 80, "hue_probe_top1": 40.0}, ("knn_top1", "hue_probe_top1")) == 60.0
    assert np.isnan(ranking.score({"knn_top1": 80, "hue_probe_top1": None}, ("knn_top1", "hue_probe_top1")))
