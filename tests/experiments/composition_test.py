"""Compositions and steering of known maps: the order counts, inverses are transposes, and what is held out."""

import math

import numpy as np
import pytest

from experiments import composition
from experiments.finished import FinishedTable


def _rotation(rng, size=3):
    q = np.linalg.qr(rng.normal(size=(size, size)))[0]
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


def test_rotations_compose_in_the_order_in_which_they_act():
    rng = np.random.default_rng(0)
    f, a, b = rng.normal(size=(40, 3)), _rotation(rng), _rotation(rng)
    right = composition.of_pair(f, f @ a.T, f @ b.T, f @ (b @ a).T)
    assert max(right[name] for name in ("matrices", "embeddings", "matrices_of_halves")) < 1e-8
    assert right["composed"] == pytest.approx(1.0) and right["fitted"] == pytest.approx(1.0)
    wrong = composition.of_pair(f, f @ a.T, f @ b.T, f @ (a @ b).T)
    assert wrong["matrices"] == pytest.approx(np.linalg.norm(b @ a - a @ b) / math.sqrt(3), rel=1e-9)
    assert wrong["fitted"] == pytest.approx(1.0) and wrong["composed"] < 0.9


def test_of_unrelated_embeddings_matrices_are_as_far_as_chance_has_it():
    rng = np.random.default_rng(1)
    found = composition.of_pair(*rng.normal(size=(4, 64, 16)))
    assert found["matrices"] == pytest.approx(math.sqrt(2), abs=0.2)
    assert found["matrices_of_halves"] == pytest.approx(math.sqrt(2), abs=0.2)
    assert found["composed"] < 0.2 and found["fitted"] < 0.2  # on what it is fitted to, it would be half


def test_steering_inverse_and_undoing():
    rng = np.random.default_rng(2)
    f, a = rng.normal(size=(40, 3)), _rotation(rng)
    exact = composition.of_strength(f, f @ a.T, f @ a, f)
    assert [exact[way] for way in ("steering", "inverse", "undoing", "cosine")] == pytest.approx([1.0] * 4)
    assert exact["cosine_still"] < 0.99
    # The inverse is another map: R_a' says nothing of it.
    other = composition.of_strength(f, f @ a.T, f @ _rotation(rng).T, f)
    assert other["steering"] == pytest.approx(1.0) and other["inverse"] < 0.9
    still = composition.of_strength(f, f, f, f)
    assert all(math.isnan(still[way]) for way in ("steering", "inverse", "undoing"))


def test_columns_of_a_run():
    pair = {"matrices": 3.0, "matrices_of_halves": 1.0, "embeddings": 0.0, "composed": 0.5, "fitted": 1.0}
    at = {"steering": 0.2, "inverse": 0.0, "undoing": -1.0, "cosine": 1.0, "cosine_still": 1.0}
    found = composition.summary(
        [pair, pair | {"matrices": 4.0, "composed": 0.7}], {"hue": {0.1: at, 0.2: at | {"steering": 0.6}}}
    )
    assert found["matrices"] == pytest.approx(math.sqrt(12.5)) and found["composed"] == pytest.approx(0.6)
    assert (found["hue_steering"], found["hue_undoing"]) == (pytest.approx(0.4), -1.0)
    assert list(found) == list(composition.measures(["hue"]))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "steered"), [("images", ["hue", "rotation"]), ("clouds", ["rotation"])])
def test_on_a_table(kind, steered, request):
    table = FinishedTable(request.getfixturevalue(f"table_of_{kind}"), "care")
    found = composition.analyse(table)
    assert list(found.measures) == list(composition.measures(steered))
    for seeds in found.numbers.values():
        assert all(math.isfinite(seeds["0"][name]) for name in found.measures)
    of = found.details["care"]["0"]
    assert len(of["pairs"]) == 1 and list(of["strengths"]) == steered and len(of["strengths"]["rotation"]) == 5
    if kind == "clouds":  # where turning back loses nothing, undoing is steering
        assert all(
            at["undoing"] == pytest.approx(at["steering"], abs=1e-3) for at in of["strengths"]["rotation"].values()
        )
