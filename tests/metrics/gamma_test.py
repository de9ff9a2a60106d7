"""Quantiles of relative equivariance against all ratios, and the null beside them."""

import numpy as np
import pytest

from care_jax import metrics
from care_jax.metrics import motion
from tests.metrics.planted import orthogonal, unit_rows


def by_loops(f, fa):
    """The ratio of every pair i < j, in float64, from differences of rows alone."""
    found = []
    for j in range(len(f)):
        for i in range(j):
            change = np.dot((fa[j] - f[j]) - (fa[i] - f[i]), (fa[j] + f[j]) - (fa[i] + f[i]))
            moved = np.square(fa[j] - f[j]).sum() + np.square(fa[i] - f[i]).sum()
            found.append((change / moved) ** 2 if moved else 0.0)
    return np.array(found)


def turned_by(f, displacement):
    """Unit rows, turned by one rotation in two planes that moves them about that far."""
    cosine, sine = np.cos(displacement), np.sin(displacement)
    plane = np.array([[cosine, -sine], [sine, cosine]])
    basis = orthogonal(40, 4, 1)
    return f @ (basis @ np.kron(np.eye(2), plane) @ basis.T).T


def test_gammas_quantiles_and_its_null():
    f = unit_rows(32, 60, 5)
    fa = np.stack([unit_rows(33, 60, 5), f + 0.1 * unit_rows(34, 60, 5)])
    found = motion.relative_equivariance_quantiles(f, fa, (0.25, 0.5))
    off = ~np.eye(60, dtype=bool)
    ratios = np.concatenate([np.asarray(metrics.relative_equivariance_ratios(f, draw))[off] for draw in fa])
    np.testing.assert_allclose([*found.quantiles.values()], np.quantile(ratios, [0.25, 0.5]), rtol=1e-3)
    np.testing.assert_allclose(found.mean, ratios.mean(), rtol=1e-3)
    expected = np.concatenate([by_loops(f, draw) for draw in fa])
    np.testing.assert_allclose([*found.quantiles.values()], np.quantile(expected, [0.25, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(found.mean, expected.mean(), rtol=1e-6)
    assert found.displacement == pytest.approx(np.sqrt(np.mean([np.square(draw - f).sum(axis=1) for draw in fa])))
    assert found.n == 60
    rotated = motion.relative_equivariance_quantiles(f, f @ orthogonal(35, 5, 1).T)
    assert rotated.quantiles[0.75] < 1e-8 < 0.01 < rotated.permuted[0.5]


def test_gamma_is_of_the_first_rows(monkeypatch):
    monkeypatch.setattr("care_jax.metrics.gamma.MAX_PAIRWISE", 20)
    f, fa = unit_rows(36, 50, 3), unit_rows(37, 50, 3)
    found = motion.relative_equivariance_quantiles(f, fa)
    few = motion.relative_equivariance_quantiles(f[:20], fa[:20])
    assert found.n == 20 and found.quantiles == few.quantiles and found.permuted == few.permuted
    assert found.displacement != few.displacement  # of all


@pytest.mark.parametrize("displacement", [3.5e-3, 3.5e-4, 3.5e-5, 3.5e-6])
def test_a_small_exact_rotation_has_no_gamma_in_float64(displacement):
    f = unit_rows(41, 100, 4)
    found = motion.relative_equivariance_quantiles(f, turned_by(f, displacement))
    assert found.displacement == pytest.approx(displacement, rel=1e-3)
    assert found.quantiles[0.75] < 1e-6 * found.permuted[0.75] and found.mean < 1e-6


@pytest.mark.parametrize(("dtype", "known", "unknown"), [(np.float32, 1e-2, 3e-4), (np.float64, 1e-5, 1e-9)])
def test_gamma_that_rounding_makes_is_not_known(dtype, known, unknown):
    """Of a rotation, which has none; and it does not matter in which type the rounded numbers come."""
    f = unit_rows(42, 100, 4)
    for displacement, expected in ((known, True), (unknown, False)):
        rounded = [x.astype(dtype) for x in (f, turned_by(f, displacement))]
        of_type, of_double = (
            motion.relative_equivariance_quantiles(*pair) for pair in (rounded, [np.float64(x) for x in rounded])
        )
        for found in (of_type, of_double):
            values = np.array([*found.quantiles.values(), found.mean])
            assert (values < 0.01 * found.permuted[0.5]).all() if expected else np.isnan(values).all()
            assert np.isfinite([*found.permuted.values()]).all()


def test_what_is_no_rounding_is_known_in_float32():
    """Random moves, small ones too, and embeddings that do not move at all."""
    f = unit_rows(43, 60, 4).astype(np.float32)
    for size in (0.3, 1e-2, 1e-4):
        fa = f + np.float32(size) * unit_rows(44, 60, 4).astype(np.float32)
        found = motion.relative_equivariance_quantiles(f, fa)
        expected = np.quantile(by_loops(np.float64(f), np.float64(fa)), [0.25, 0.5, 0.75])
        np.testing.assert_allclose([*found.quantiles.values()], expected, rtol=1e-5)
    still = motion.relative_equivariance_quantiles(f, f)
    assert set(still.quantiles.values()) == {0.0} and still.mean == still.displacement == 0.0


@pytest.mark.parametrize("scale", [2.0**80, 2.0**500, 2.0**-500])
def test_gamma_knows_no_scale(scale):
    f = unit_rows(45, 30, 4)
    fa = f + 0.1 * unit_rows(46, 30, 4)
    found, scaled = (motion.relative_equivariance_quantiles(f * by, fa * by) for by in (1.0, scale))
    assert (scaled.quantiles, scaled.permuted, scaled.mean) == (found.quantiles, found.permuted, found.mean)


def test_gamma_of_pairs_in_several_blocks(monkeypatch):
    f, fa = unit_rows(47, 50, 3), unit_rows(48, 50, 3)
    whole = motion.relative_equivariance_quantiles(f, fa)
    monkeypatch.setattr("care_jax.metrics.gamma._BLOCK", 7)
    blocks = motion.relative_equivariance_quantiles(f, fa)
    np.testing.assert_allclose([*blocks.quantiles.values()], [*whole.quantiles.values()], rtol=1e-6)
    np.testing.assert_allclose(blocks.mean, whole.mean, rtol=1e-6)
