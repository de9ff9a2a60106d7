"""Parameters of augmentations read from pairs: planted ones, and the closed form of ridge regression."""

import numpy as np
import pytest

from care_jax.metrics import heldout, motion


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_parameters_are_read_from_pairs_that_tell_them(kind):
    rng = np.random.default_rng(30)
    f, angle = rng.standard_normal((400, 2)), rng.uniform(0.1, 0.9, 400)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, 2, 2)
    fa = np.einsum("nij,nj->ni", turn, f)
    drawn = {"angle": angle, "shift": fa[:, 0] - f[:, 1], "nothing": rng.standard_normal(400), "same": np.ones(400)}
    found = motion.parameters_explained(f, fa, drawn, kind=kind, bootstraps=100)
    assert list(found) == list(drawn) and found["same"] is None
    assert found["shift"].mean > 0.95
    assert found["nothing"].mean < 0.05
    if kind == "linear":
        assert abs(found["angle"].mean) < 0.1  # the angle is no linear function of the pair
    else:
        assert found["angle"].low > 0.2


def test_parameters_by_the_closed_form():
    rng = np.random.default_rng(31)
    f, fa, y = rng.standard_normal((30, 2)), rng.standard_normal((30, 2)), rng.standard_normal(30)
    x, left, spread = np.concatenate([f, fa], axis=1), 0.0, 0.0
    halves = heldout.halves(30, 0)
    for fitted, judged in (halves, halves[::-1]):
        mean, deviation = x[fitted].mean(axis=0), x[fitted].std(axis=0)
        a, b = ((x[rows] - mean) / deviation for rows in (fitted, judged))
        slope = np.linalg.solve(a.T @ a + np.eye(4), a.T @ (y[fitted] - y[fitted].mean()))
        left += np.square(y[judged] - y[fitted].mean() - b @ slope).sum()
        spread += np.square(y[judged] - y[judged].mean()).sum()
    found = motion.parameters_explained(f, fa, {"y": y}, bootstraps=10)["y"]
    assert found.mean == pytest.approx(1 - left / spread)
