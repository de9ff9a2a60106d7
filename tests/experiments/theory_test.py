"""The verdict on the two propositions: what it says when they hold, and that it says when one is broken."""

import math

import numpy as np
import pytest

from experiments import theory
from experiments.finished import FinishedTable

POINTS = [
    {"residual": 0.1, "displacement": 0.5, "root_loss": 0.01, "inverse": 9.0, "bound": 1.0},
    {"residual": 0.4, "displacement": 0.5, "root_loss": 0.2, "inverse": 9.0, "bound": 2.0},
]


def test_what_holds_and_how_loose_it_is():
    said = theory.verdict(POINTS)
    assert said.startswith(
        "Proposition 3 holds: 2 of 2 residuals are under their bound, at most 0.2 and in the middle 0.15"
    )
    assert "rank correlation of 1.00" in said and said.endswith(
        "0.2, the residual is 0.4, and where it is least, 0.01, 0.1."
    )


def test_what_is_broken_is_said():
    broken = theory.verdict([*POINTS, POINTS[0] | {"residual": 1.5}])
    assert broken.startswith("Proposition 3 is BROKEN: 2 of 3 residuals are under their bound, at most 1.5")


def test_without_full_rank_nothing_is_said():
    low = POINTS[0] | {"inverse": math.inf, "bound": math.inf}
    assert "(of 1 more, of a rank below d, it says nothing)" in theory.verdict([*POINTS, low])
    assert theory.verdict([low, low]).startswith("Proposition 3 says nothing: no embeddings span all dimensions")


def test_ranks_against_loops():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, size=(2, 30)).astype(float)

    def ranks(values):
        return [sum(v < w for v in values) + (sum(v == w for v in values) + 1) / 2 for w in values]

    expected = np.corrcoef(ranks(one), ranks(other))[0, 1]
    assert theory.rank_correlation(one, other) == pytest.approx(expected, abs=1e-9)
    assert math.isnan(theory.rank_correlation(np.ones(4), np.arange(4.0)))


def test_columns_and_picture():
    found = theory.summary(POINTS)
    assert found["residual"] == 0.25 and found["within"] == 100.0 and found["tightness"] == pytest.approx(0.15)
    assert list(found) == list(theory.MEASURES)
    assert theory.summary([POINTS[0] | {"residual": 1.5}])["within"] == 0.0
    without = [point | {"bound": math.inf} for point in POINTS]  # of a rank below d, where the bound says nothing
    assert all(math.isnan(theory.summary(without)[name]) for name in ("within", "tightness"))
    some = theory.summary([*without, *POINTS])
    assert some["within"] == 100.0 and some["tightness"] == found["tightness"]
    over_loss, over_bound = theory.picture({"a": POINTS, "b": [POINTS[0] | {"bound": math.inf}]}).axes
    assert [len(line.get_xdata()) for line in over_loss.lines] == [2, 1]
    assert [len(line.get_xdata()) for line in over_bound.lines] == [2, 0, 2]  # the last is the bound itself


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "clouds"])
def test_on_a_table(kind, request):
    found = theory.analyse(FinishedTable(request.getfixturevalue(f"table_of_{kind}"), "care"), every_checkpoint=True)
    assert all(seeds["0"]["within"] == 100.0 for seeds in found.numbers.values())
    assert [len(draws) for draws in found.details["care"]["0"].values()] == [3]
    assert found.said[0].startswith("Proposition 3 ")
    for draws in found.details["care"]["0"].values():
        assert all(draw["residual"] <= draw["displacement"] + 1e-6 for draw in draws)  # the identity is orthogonal
