"""Cosines of positives and negatives: against a loop, of a collapse, in the picture; on a table of runs."""

from unittest.mock import Mock

import numpy as np
import pytest

from experiments import positives
from experiments.finished import FinishedTable


def _unit(rng, n, d):
    found = rng.normal(size=(n, d))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_cosines_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    first, second = _unit(rng, 5, 3), _unit(rng, 5, 3)
    positive, negative = positives.cosines(first, second)
    assert positive == pytest.approx([first[i] @ second[i] for i in range(5)])
    expected = [first[i] @ second[j] for i in range(5) for j in range(5) if i != j]
    assert sorted(negative) == pytest.approx(sorted(expected))


def test_shares_add_up_and_rounding_beyond_1_counts():
    shares = positives.shares(np.array([1.0 + 1e-9, 1.0, -1.0 - 1e-9, 0.01]))
    assert shares.sum() == 1.0 and shares[-1] == 0.5 and shares[0] == 0.25


def _run(place):
    shares = np.zeros(50)
    shares[place] = 1.0
    return {"positives": shares, "negatives": np.full(50, 0.02)}


def test_the_picture_has_a_panel_a_row_and_the_course_of_steps_that_all_have():
    runs = {"care": {"0": _run(49), "1": _run(48)}, "infonce": {"0": _run(40), "1": _run(40)}}
    courses = {
        "care": {"0": {0: 0.1, 5: 0.3, 9: 0.9}, "1": {0: 0.3, 5: 0.5}},
        "infonce": {"0": {0: 0.2, 5: 0.2}, "1": {0: 0.2, 5: 0.4}},
    }
    figure = positives.picture(runs, courses)
    care, infonce, course = figure.axes
    assert [care.get_title(), infonce.get_title()] == ["care", "infonce"]
    assert care.patches[1].get_data().values[[48, 49]] == pytest.approx([50.0, 50.0])
    assert [line.get_label() for line in course.lines] == ["care", "infonce"]
    assert course.lines[0].get_xdata().tolist() == [0, 5]
    assert course.lines[0].get_ydata().tolist() == pytest.approx([0.2, 0.4])
    without = positives.picture(runs, {row: {"0": {9: 0.1}, "1": {9: 0.2}} for row in runs})
    assert len(without.axes) == 2


def test_runs_are_compared_by_the_draws_of_the_branch_that_is_drawn():
    table = Mock()
    table.runs.side_effect = InterruptedError  # nothing is analysed
    with pytest.raises(InterruptedError):
        positives.analyse(table)
    table.runs.assert_called_once_with(every_checkpoint=True, branch="invariance")


@pytest.mark.slow
def test_on_a_table_of_images(table_of_images):
    found = positives.analyse(FinishedTable(table_of_images))
    for row in ("care", "simclr"):
        of = found.numbers[row]["0"]
        assert -1.0 <= of["negative"] < of["positive"] <= 1.0 and of["apart"] > 0.0
        assert list(found.details["courses"][row]["0"]) == [0]
    assert found.numbers["care"] != found.numbers["simclr"]
