"""NaN in, NaN out: one broken embedding shows in every measure; a class, which has no NaN, is -1."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import metrics

N, D = 5, 3
EYE = np.eye(D, dtype=np.float32)
PAIRED = {
    "composition_error": lambda f, fa: metrics.composition_error(EYE, EYE, f, fa),
    "group_residual": lambda f, fa: metrics.group_residual(f, fa, form=EYE),
    "relative_equivariance": metrics.relative_equivariance,
    "relative_equivariance_median": metrics.relative_equivariance_median,
    "wahba": metrics.wahba,
}
SPECIAL = {"knn_vote", "recall_at_k", "relative_equivariance_ratios", "weighted_knn"}  # recall takes integers alone


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    whole, broken = np.random.default_rng(0).standard_normal((2, N, D)).astype(np.float32)
    broken[-1, 0] = np.nan
    return whole, broken


def test_every_measure_is_here():
    on_the_host = {name for name in metrics.__all__ if inspect.ismodule(getattr(metrics, name))}  # they refuse NaN
    assert set(PAIRED) | SPECIAL == set(metrics.__all__) - on_the_host
    assert on_the_host == {"clouds", "motion", "procrustes"}


@pytest.mark.parametrize("name", PAIRED)
def test_one_nan_shows(name, rows):
    whole, broken = rows
    measure = jax.jit(PAIRED[name])
    for pair in ((broken, whole), (whole, broken), (broken, broken)):
        for result in jax.tree.leaves(measure(*pair)):
            assert np.isnan(result).all()


def test_all_pairs_of_a_broken_row_are_nan(rows):
    whole, broken = rows
    broken_pairs = np.isnan(metrics.relative_equivariance_ratios(whole, broken))
    expected = np.eye(N, dtype=bool)
    expected[-1] = expected[:, -1] = True
    np.testing.assert_array_equal(broken_pairs, expected)


@pytest.mark.parametrize("sign", [1, -1])  # a sort puts one of them first, the other last
def test_a_broken_query_or_bank_has_no_class(rows, sign):
    whole, broken = rows
    predict = jax.jit(lambda *sets: metrics.weighted_knn(*sets, np.arange(N), k=1, temperature=0.1, num_classes=N))
    np.testing.assert_array_equal(predict(whole, whole), np.arange(N))
    np.testing.assert_array_equal(predict(np.copysign(broken, sign), whole)[-1], -1)
    assert (predict(np.copysign(broken, sign), whole)[:-1] >= 0).all()
    np.testing.assert_array_equal(predict(whole, np.copysign(broken, sign)), [-1] * N)


def test_a_broken_similarity_leaves_no_class_a_score():
    similarities = jnp.array([[0.5, np.nan], [0.5, 0.2]])
    scores = metrics.knn_vote(similarities, jnp.array([[0, 1], [0, 1]]), num_classes=3, temperature=1.0)
    assert np.isnan(scores[0]).all() and np.isfinite(scores[1]).all()


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_cosines_know_no_scale(rows, scale):
    """Squares of such rows are 0 or inf in float32."""
    whole, _ = rows
    predict = jax.jit(lambda *sets: metrics.weighted_knn(*sets, np.arange(N), k=1, temperature=0.1, num_classes=N))
    np.testing.assert_array_equal(predict(scale * whole, whole), np.arange(N))
    np.testing.assert_array_equal(predict(whole, np.float32(scale) * whole), np.arange(N))
