"""Intervals: how often they hold what is true, and where they end; how arguments may be given."""

import contextlib

import numpy as np
import pytest

from care_jax.metrics import heldout, motion
from tests.metrics.motion_test import F, share, turning, within
from tests.metrics.planted import unit_rows


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


@pytest.mark.parametrize(("size", "limited"), [(3, True), (600, False)])
def test_one_thread_serves_narrow_arrays_however_they_are_given(monkeypatch, size, limited):
    said = []

    class Controller:
        def limit(self, **settings):
            said.append(settings)
            return contextlib.nullcontext()

    monkeypatch.setattr(heldout, "_thread_controller", Controller)
    function = heldout.on_few_threads(lambda rotation, other=0: (rotation.shape, other))
    rows = np.zeros((4, size))
    assert function(rows) == ((4, size), 0) and function(other=1, rotation=rows) == ((4, size), 1)
    assert said == [{"limits": 1, "user_api": "blas"}] * (2 * limited)


def test_nested_lists_are_arrays():
    """`after` as `before`: one draw or several, of lists, or of rows."""
    fa = np.stack([unit_rows(39, 8, 3), F[::-1]])
    for measure in (motion.share_explained, motion.follow_prediction):
        expected = measure(F, fa[0], bootstraps=10), measure(F, fa, bootstraps=10)
        assert measure(F.tolist(), fa[0].tolist(), bootstraps=10) == expected[0]
        assert measure(F, list(fa[0]), bootstraps=10) == measure(F, tuple(fa[0]), bootstraps=10) == expected[0]
        assert measure(F, fa.tolist(), bootstraps=10) == measure(F, list(fa), bootstraps=10) == expected[1]
    gamma = motion.relative_equivariance_quantiles(F.tolist(), fa[0].tolist())
    assert gamma == motion.relative_equivariance_quantiles(F, fa[0])


def test_arguments_go_by_their_names():
    rotation = motion.best_map(before=F, after=F[::-1])
    np.testing.assert_array_equal(rotation, motion.best_map(F, F[::-1]))
    np.testing.assert_array_equal(motion.rotation_angles(rotation=rotation), motion.rotation_angles(rotation))
    assert motion.share_explained(after=F[::-1], before=F) == motion.share_explained(F, F[::-1])
    with pytest.raises(TypeError, match="'rotation'"):
        motion.rotation_angles()
