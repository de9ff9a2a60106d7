"""Intervals: how often they hold what is true, and where they end."""

import numpy as np
import pytest

from care_jax.metrics import heldout, motion
from tests.metrics.motion_test import share, turning, within


def test_the_interval_covers_the_share_of_the_fitted_maps():
    covered, trials, rotation, noise = 0, 200, turning(60, 20), 0.4
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        f = rng.standard_normal((80, 4))
        fa = f @ rotation.T + noise * rng.standard_normal(f.shape)
        maps = [motion.best_map(f[rows], fa[rows]) for rows in heldout.halves(80, 0)]
        left = np.mean([np.square(fitted - rotation).sum() for fitted in maps]) + 4 * noise**2
        covered += within(1 - left / (np.square(np.eye(4) - rotation).sum() + 4 * noise**2), share(f, fa))
    assert 0.90 <= covered / trials <= 0.985


def test_the_ends_of_an_interval_leave_out_as_much():
    values = np.random.default_rng(39).standard_normal(400)
    found = heldout.interval(np.stack([values, np.ones(400)], axis=1), np.divide, seed=0, bootstraps=4000)
    error = values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert [(end - found.mean) / error for end in found[1:3]] == pytest.approx([-1.96, 1.96], abs=0.12)
