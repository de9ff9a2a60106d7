"""Quantiles of relative equivariance against all ratios, and the null beside them."""

import numpy as np
import pytest

from care_jax import metrics
from care_jax.metrics import motion
from tests.metrics.planted import orthogonal, unit_rows


def test_gammas_quantiles_and_its_null():
    f = unit_rows(32, 60, 5)
    fa = np.stack([unit_rows(33, 60, 5), f + 0.1 * unit_rows(34, 60, 5)])
    found = motion.relative_equivariance_quantiles(f, fa, (0.25, 0.5))
    off = ~np.eye(60, dtype=bool)
    ratios = np.concatenate([np.asarray(metrics.relative_equivariance_ratios(f, draw))[off] for draw in fa])
    np.testing.assert_allclose([*found.quantiles.values()], np.quantile(ratios, [0.25, 0.5]), rtol=1e-3)
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
