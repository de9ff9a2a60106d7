"""The numbers of two arrays by loops and closed forms, and where one is not known."""

import numpy as np
import pytest

from care_jax.measure import draws
from tests.metrics.gamma_test import by_loops
from tests.metrics.planted import orthogonal, unit_rows


def test_the_numbers_of_two_arrays():
    before = unit_rows(0, 50, 4).astype(np.float32)
    after = (before @ orthogonal(1, 4, -1).T + 0.1 * unit_rows(2, 50, 4)).astype(np.float32)
    found = draws.of_arrays(before, after)
    f, fa = np.float64(before), np.float64(after)
    values = np.linalg.svd(fa.T @ f, compute_uv=False)
    assert np.linalg.det(fa.T @ f) < 0  # a rotation must turn the last direction against its will
    squares = [np.square(f).sum() + np.square(fa).sum() - 2 * values @ signs for signs in ([1, 1, 1, -1], np.ones(4))]
    assert [found["wahba_mean"], found["wahba_orthogonal_mean"]] == pytest.approx(np.sqrt(np.divide(squares, 50)))
    assert found["displacement_mean"] == pytest.approx(np.sqrt(np.square(f - fa).sum() / 50))
    ratios = by_loops(f, fa)
    assert found["relative_equivariance_mean"] == pytest.approx(ratios.mean(), rel=1e-6)
    assert found["relative_equivariance_median"] == pytest.approx(np.median(ratios), rel=1e-6)
    assert found["relative_equivariance_examples"] == found["test_examples"] == 50


@pytest.mark.parametrize("scale", [1.0, 1e20, 1e60])
def test_small_motions_are_measured_in_float64(scale):
    before = unit_rows(3, 50, 4)
    angle = 1.3e-4
    turn = np.kron(np.eye(2), [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = draws.of_arrays(scale * before, scale * before @ turn.T)
    assert found["displacement_mean"] == pytest.approx(scale * angle, rel=1e-4)
    assert found["wahba_mean"] < 1e-12 * scale and found["wahba_orthogonal_mean"] < 1e-12 * scale
    assert found["relative_equivariance_mean"] < 1e-9 and found["relative_equivariance_median"] < 1e-9
    rounded = draws.of_arrays(*(x.astype(np.float32) for x in (before, before @ turn.T)))
    assert rounded["relative_equivariance_mean"] is rounded["relative_equivariance_median"] is None
