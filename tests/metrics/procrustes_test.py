"""The two sides of Proposition 3: against loops in float64, and the bound for matrices of all kinds."""

import math

import numpy as np
import pytest

from care_jax.metrics.procrustes import procrustes_bound


def _orthogonal(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def test_both_sides_against_loops():
    rng = np.random.default_rng(0)
    f, fa = rng.normal(size=(11, 3)), rng.normal(size=(11, 3))
    found = procrustes_bound(f, fa)
    loss = 0.0
    for i in range(11):
        for j in range(11):
            loss += (float(np.dot(f[i], f[j])) - float(np.dot(fa[i], fa[j]))) ** 2
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.inverse == pytest.approx(np.linalg.norm(np.linalg.pinv(f.T), 2), rel=1e-12)
    assert found.bound == pytest.approx((1 + math.sqrt(2)) * found.inverse * math.sqrt(loss), rel=1e-12)
    nuclear = np.linalg.svd(fa.T @ f, compute_uv=False).sum()
    assert found.residual == pytest.approx(math.sqrt((f**2).sum() + (fa**2).sum() - 2 * nuclear), rel=1e-12)
    for _ in range(200):  # no orthogonal map is better, a reflection neither
        assert np.linalg.norm(f @ _orthogonal(rng, 3).T - fa) >= found.residual


@pytest.mark.parametrize("kind", ["unrelated", "near", "flat", "collapsing", "unit", "few"])
def test_the_bound_holds_with_the_sharper_constant_too(kind):
    rng = np.random.default_rng(1)
    tightest = 0.0
    for _ in range(300):
        n, d = (4, 4) if kind == "few" else (int(rng.integers(8, 20)), int(rng.integers(1, 7)))
        f, fa = rng.normal(size=(n, d)), rng.normal(size=(n, d))
        if kind == "near":
            fa = f @ _orthogonal(rng, d).T + 10.0 ** rng.uniform(-6, 0) * fa
        if kind == "flat":  # directions in which hardly anything lies
            f, fa = (side * np.logspace(0, -5, d) for side in (f, fa))
        if kind == "collapsing":
            fa = 10.0 ** rng.uniform(-6, 0) * f
        if kind == "unit":
            f, fa = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (f, fa))
        found = procrustes_bound(f, fa)
        sharper = found.bound / (1 + math.sqrt(2)) / math.sqrt(2 * (math.sqrt(2) - 1))
        assert found.residual <= sharper * (1 + 1e-9)
        tightest = max(tightest, found.residual / found.bound)
    assert tightest > 1e-3  # of no use if it were always far away


def test_a_rotation_or_reflection_leaves_nothing_however_small_the_loss_is():
    rng = np.random.default_rng(2)
    f = rng.normal(size=(500, 8))
    for turn in (_orthogonal(rng, 8), np.diag([-1.0, *[1.0] * 7])):
        found = procrustes_bound(f, f @ turn.T)
        assert found.residual < 1e-12 * np.linalg.norm(f)
        assert math.sqrt(found.loss) < 1e-12 * np.square(f).sum()


def test_a_rank_below_d_says_nothing():
    rng = np.random.default_rng(3)
    for f in (np.ones((9, 3)), rng.normal(size=(5, 6)), np.zeros((5, 2))):
        assert procrustes_bound(f, rng.normal(size=f.shape)).bound == math.inf


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"procrustes_bound: after must be \[5, 2\]"):
        procrustes_bound(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="before is not finite, first in row 1"):
        procrustes_bound(np.array([[0.0], [np.nan], [0.0], [0.0]]), np.zeros((4, 1)))
