"""Angles on the circle: of known turns, of none, of a reflection; the table's columns and the picture."""

import numpy as np
import pytest

from care_jax.command_line import UsageError
from experiments import circle
from experiments.finished import FinishedTable


def _points(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def test_a_turn_of_all_by_one_angle_is_found_with_its_sign_and_a_concentration_of_1():
    around = np.random.default_rng(0).uniform(-np.pi, np.pi, 50)
    turns = np.radians([-170.0, -20.0, 0.0, 95.0])
    turned = circle.angles(np.stack([_points(around)] * 4), np.stack([_points(around + turn) for turn in turns]))
    np.testing.assert_allclose(turned, np.broadcast_to(turns[:, None], (4, 50)), atol=1e-12)
    found = circle.of_angles(turned)
    np.testing.assert_allclose(found["turn"], [-170.0, -20.0, 0.0, 95.0], atol=1e-9)
    np.testing.assert_allclose(found["concentration"], 1.0, atol=1e-12)
    np.testing.assert_allclose(found["cosine_spread"], 0.0, atol=1e-12)
    np.testing.assert_allclose(found["far"], [100.0, 0.0, 0.0, 0.0])


def test_turns_that_know_nothing_of_each_other_have_no_concentration():
    rng = np.random.default_rng(1)
    found = circle.of_angles(rng.uniform(-np.pi, np.pi, (1, 10_000)))
    assert found["concentration"][0] < 0.05 and found["far"][0] == pytest.approx(100 / 3, abs=2.0)


def test_a_reflection_is_no_turn():
    around = np.linspace(-np.pi, np.pi, 36, endpoint=False)
    found = circle.of_angles(circle.angles(_points(around), _points(-around))[None])
    assert found["concentration"][0] == pytest.approx(0.0, abs=1e-12)


def _run(turns, concentrations, histogram):
    of = {name: np.array([0.5, 0.7]) for name in ("cosine", "cosine_spread", "far")}
    return of | {
        "turn": np.array(turns),
        "concentration": np.array(concentrations),
        "histogram": np.array(histogram),
        "covered": 0.9,
    }


def test_the_columns_of_a_run():
    found = circle.summary(_run([-30.0, 10.0], [0.9, 0.5], np.zeros(40)))
    assert found["turn"] == 20.0 and found["concentration_worst"] == 0.5 and found["covered"] == 0.9
    assert found["concentration"] == pytest.approx(0.7) and found["cosine"] == pytest.approx(0.6)
    assert set(found) == set(circle.MEASURES)


def test_the_picture_has_the_mean_histogram_and_every_draw_of_every_seed():
    shares = np.full(40, 1 / 40)
    runs = {"care": {"0": _run([-30.0, 10.0], [0.9, 0.5], shares), "1": _run([-40.0, 20.0], [0.8, 0.6], 2 * shares)}}
    above, below = circle.picture(runs).axes
    assert above.patches[0].get_data().values == pytest.approx(np.full(40, 1.5 * 100 / 40))
    assert below.lines[0].get_xdata().tolist() == [-30.0, 10.0, -40.0, 20.0]
    assert below.lines[0].get_ydata().tolist() == [0.9, 0.5, 0.8, 0.6]


@pytest.mark.slow
def test_on_a_table_whose_embeddings_are_on_the_circle_and_on_another(table_on_the_circle, table_of_images):
    found = circle.analyse(FinishedTable(table_on_the_circle))
    for row in ("care", "simclr"):
        of = found.details["runs"][row]["0"]
        assert len(of["turn"]) == 3 and of["histogram"].sum() == pytest.approx(1.0)
        assert 0.0 < found.numbers[row]["0"]["concentration_worst"] <= found.numbers[row]["0"]["concentration"] <= 1.0
    with pytest.raises(UsageError, match=r"embeddings of 8 dimensions, and a circle has 2: .*head_size=2"):
        circle.analyse(FinishedTable(table_of_images))
