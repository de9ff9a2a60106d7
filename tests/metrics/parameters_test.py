"""Parameters of augmentations read from pairs: planted ones, and the closed form of ridge regression."""

import sys

import numpy as np
import pytest

from care_jax.metrics import heldout, motion
from care_jax.metrics.parameters import _predicted


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)  # importing it fails
    rows = np.eye(4)
    with pytest.raises(ImportError, match=r"^parameters_explained needs sklearn.*: pip install 'care_jax\[train\]'$"):
        motion.parameters_explained(rows, rows, {"x": rows[:, 0]})


@pytest.mark.parametrize(("kind", "seed"), [("linear", 30), ("mlp", 30), ("mlp", 31), ("mlp", 32)])
def test_parameters_are_read_from_pairs_that_tell_them(kind, seed):
    rng = np.random.default_rng(seed)
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
        assert found["angle"].low > 0.5  # no network that stopped at its first epochs


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


def test_rows_of_one_input_are_in_the_same_half():
    """Each input's own number, which says nothing of the others, can be read only where the input was fitted to."""
    rng = np.random.default_rng(32)
    images = rng.permutation(np.repeat(np.arange(20), 10))
    f, own = rng.standard_normal((20, 60)), rng.standard_normal(20)
    pairs = f[images] + 0.01 * rng.standard_normal((200, 60)), f[images]
    apart = motion.parameters_explained(*pairs, {"own": own[images]}, inputs=images, bootstraps=100)["own"]
    mixed = motion.parameters_explained(*pairs, {"own": own[images]}, bootstraps=100)["own"]
    assert mixed.mean > 0.95 and apart.mean < 0.3 and (apart.n, mixed.n) == (20, 200)
    renamed = motion.parameters_explained(*pairs, {"own": own[images]}, inputs=100 - 3 * images[::1], bootstraps=100)
    assert renamed["own"].n == 20
    for wrong in (images[:-1], images[:, None], np.zeros(200, int)):
        with pytest.raises(ValueError, match="inputs"):
            motion.parameters_explained(*pairs, {"own": own[images]}, inputs=wrong)


def test_seeds_of_more_than_32_bits_are_taken():
    """As of a date and a time; scikit-learn refuses them."""
    rng = np.random.default_rng(0)
    pairs, targets = rng.normal(size=(12, 3)), rng.normal(size=(12, 1))
    found = [_predicted(pairs, targets, np.arange(8), np.arange(8, 12), "mlp", seed=seed) for seed in (2**40, 2**40, 7)]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
