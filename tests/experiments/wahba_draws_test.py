"""Wahba's error of one draw, held out: what it is of known maps; who wins on how many draws; the picture."""

import math

import numpy as np
import pytest

from experiments import analysis, wahba_draws
from experiments.finished import FinishedTable


def _rotation(rng, size):
    q = np.linalg.qr(rng.normal(size=(size, size)))[0]
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


def test_a_rotation_leaves_nothing_of_inputs_that_it_was_not_fitted_to():
    rng = np.random.default_rng(0)
    f = rng.normal(size=(40, 4))
    found = wahba_draws.held_out(f, f @ _rotation(rng, 4).T)
    assert found["wahba"] < 1e-8 and found["wahba_fitted"] < 1e-8
    assert found["share"] == pytest.approx(1.0, abs=1e-12) and found["displacement"] > 0.5


def test_held_out_is_worse_than_fitted_where_there_is_nothing_to_fit():
    rng = np.random.default_rng(1)
    f, fa = rng.normal(size=(2, 24, 8))
    found = wahba_draws.held_out(f, fa)
    assert found["wahba_fitted"] < min(found["displacement"], found["wahba"]) - 0.5
    assert found["share"] == pytest.approx(1 - (found["wahba"] / found["displacement"]) ** 2, rel=1e-12)
    assert found["displacement"] == pytest.approx(math.sqrt(np.mean(np.square(f - fa).sum(axis=1))), rel=1e-12)


def test_nothing_moves():
    f = np.random.default_rng(2).normal(size=(12, 3))
    found = wahba_draws.held_out(f, f)
    assert found["displacement"] == 0 and found["wahba"] < 1e-8 and math.isnan(found["share"])


def _draws(wahba, share):
    return {"wahba": np.array(wahba), "share": np.array(share)}


PER_DRAW = {
    "simclr": {"0": _draws([0.3, 0.1, 0.2], [0.0, 0.1, 0.2]), "1": _draws([0.3, 0.1, 0.2], [0.0, 0.1, 0.2])},
    "care": {"0": _draws([0.2, 0.2, 0.1], [0.9, 0.8, 0.1]), "1": _draws([0.3, 0.2, 0.2], [0.9, 0.8, 0.1])},
}


def test_the_sentence_counts_draws_by_the_means_over_seeds():
    (line,) = wahba_draws.wins(PER_DRAW, "simclr")
    assert line == "Draw by draw care has the lower error on 2 of 3 and the higher share on 2, means over seeds."
    assert wahba_draws.wins(PER_DRAW, "") == ()


def test_the_picture_is_in_the_order_of_one_rows_error():
    errors, shares = wahba_draws.picture(PER_DRAW, "simclr").axes
    simclr, care = (container.lines[0].get_ydata() for container in errors.containers)
    assert list(simclr) == pytest.approx([0.1, 0.2, 0.3]) and list(care) == pytest.approx([0.2, 0.15, 0.25])
    assert list(shares.containers[1].lines[0].get_ydata()) == pytest.approx([0.8, 0.1, 0.9])
    assert [text.get_text() for text in errors.figure.legends[0].get_texts()] == ["simclr", "care"]


@pytest.mark.slow
def test_on_a_table_of_images(table_of_images):
    table = FinishedTable(table_of_images)
    found = wahba_draws.analyse(table)
    assert table.against == "simclr" and [used["row"] for used in table.used] == ["care", "simclr"]
    for row in ("care", "simclr"):
        of = found.details[row]["0"]
        assert len(of["wahba"]) == 3 and (of["wahba_fitted"] <= of["displacement"] + 1e-6).all()
        assert found.numbers[row]["0"]["wahba_worst"] == of["wahba"].max()
    assert found.numbers["care"] != found.numbers["simclr"]


@pytest.mark.slow
def test_the_same_clouds_are_the_same(table_of_clouds):
    found = wahba_draws.analyse(FinishedTable(table_of_clouds, "care"))
    (line,) = analysis.verdicts(found.measures, found.compared, found.numbers, "care")
    assert line.startswith("same against care: ") and line.count("the same") == len(wahba_draws.COMPARED)
