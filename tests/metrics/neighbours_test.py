"""Votes of neighbours and recall: scikit-learn, loops in float64, ties, precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from care_jax import metrics


def unit_rows(seed: int, n: int, d: int) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_knn_vote_loops():
    rng = np.random.default_rng(33)
    similarities, labels = rng.uniform(-1, 1, (6, 9)), rng.integers(-1, 5, (6, 9))  # -1 and 4 are no class: no vote
    expected = np.zeros((6, 4))
    for q in range(6):
        for s, label in zip(similarities[q], labels[q], strict=True):
            if 0 <= label < 4:
                expected[q, label] += np.exp(s / 0.3) / np.exp(similarities[q].max() / 0.3)
    with jax.enable_x64(True):
        scores = metrics.knn_vote(similarities, labels, num_classes=4, temperature=0.3)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_knn_vote_at_low_temperature(dtype):
    similarities = jnp.asarray([[1.0, 0.5, 0.5], [-1.0, -1.0, -0.5]], dtype)
    scores = metrics.knn_vote(similarities, jnp.array([[2, 0, 0], [0, 0, 1]]), num_classes=3, temperature=0.005)
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, [[0, 0, 1], [0, 1, 0]], atol=1e-30)


_predict = jax.jit(partial(metrics.weighted_knn, num_classes=4, block=16), static_argnames="k")


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("k", [1, 20, 150])
def test_weighted_knn_against_scikit_learn(k, temperature):
    rng = np.random.default_rng(34)
    centres = rng.standard_normal((4, 6))
    bank_labels, bank = rng.integers(0, 4, 150), rng.standard_normal((150, 6))
    bank += centres[bank_labels]
    queries = rng.standard_normal((37, 6)) + centres[rng.integers(0, 4, 37)]
    oracle = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / temperature), metric="cosine")
    expected = oracle.fit(bank, bank_labels).predict(queries)
    with jax.enable_x64(True):
        actual = _predict(queries, bank, bank_labels, k=k, temperature=jnp.asarray(temperature))
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == jnp.int32 and len(set(expected)) > 1


def test_weighted_knn_blocks_and_half_precision():
    arrays = unit_rows(35, 10, 2), unit_rows(36, 200, 2), np.arange(200)
    predict = jax.jit(partial(metrics.weighted_knn, k=1, temperature=0.2, num_classes=200), static_argnames="block")
    for block in (1, 4, 10):
        np.testing.assert_array_equal(predict(*arrays, block=block), predict(*arrays))
        assert f"tensor<{block}x200xf32>" in predict.lower(*arrays, block=block).as_text()
    halves = [jnp.asarray(z, jnp.bfloat16) for z in arrays[:2]]  # to be compared as the float32 numbers they are
    np.testing.assert_array_equal(predict(*halves, arrays[2]), predict(*map(np.float32, halves), arrays[2]))


def test_weighted_knn_ties_go_to_the_lower_class():
    bank = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    predict = partial(metrics.weighted_knn, jnp.array([[1.0, 0.0], [0.0, 0.0]]), bank, temperature=0.1, num_classes=5)
    np.testing.assert_array_equal(predict(jnp.array([4, 2, 4, 2]), k=4), [2, 2])
    # A zero query is equally far from everything, not NaN.
    np.testing.assert_array_equal(predict(jnp.array([4, 4, 2, 4]), k=4), [4, 4])
    np.testing.assert_array_equal(predict(jnp.array([4, 2, 2, 2]), k=1), [4, 4])  # the earlier row of equal cosine


@pytest.mark.parametrize("k", [1, 3])
def test_recall_at_k_loops(k):
    rng = np.random.default_rng(37)
    retrieved, labels = rng.integers(0, 4, (25, 5))[:, :k], rng.integers(0, 4, 25)
    expected = sum(label in row for row, label in zip(retrieved.tolist(), labels.tolist(), strict=True)) / 25
    recall = jax.jit(metrics.recall_at_k)(retrieved, labels)
    assert recall.dtype == jnp.float32 and 0 < expected < 1
    np.testing.assert_allclose(recall, expected, rtol=1e-6)


def test_matrix_products_are_exact():
    predict = partial(metrics.weighted_knn, k=2, temperature=0.1, num_classes=2)
    program = str(jax.make_jaxpr(predict)(np.ones((6, 3)), np.ones((6, 3)), np.zeros(6, int)))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") >= 1


def test_errors_name_the_function_and_the_value():
    f, eye = np.ones((4, 3)), np.eye(3)
    knn = partial(metrics.weighted_knn, f, f, np.zeros(4, int), temperature=0.1, num_classes=2)
    vote = partial(metrics.knn_vote, f, np.zeros((4, 3), int), num_classes=2)
    for call, message in [
        (lambda: knn(k=5), "k must be between 1 and the bank's 4 rows; got 5"),
        (lambda: knn(k=0), "got 0"),
        (lambda: knn(k=1, temperature=0.0), "temperature must be positive; got 0.0"),
        (lambda: metrics.weighted_knn(f, f[:, :2], f[:, 0], k=1, temperature=1.0, num_classes=2), r"\(4, 2\)"),
        (lambda: metrics.weighted_knn(f, f, f, k=1, temperature=1.0, num_classes=2), r"as many labels; .*\(4, 3\)"),
        (lambda: vote(temperature=-1.0), "temperature must be positive; got -1.0"),
        (lambda: vote(temperature=1.0, num_classes=0), "knn_vote: num_classes must be positive; got 0"),
        (lambda: metrics.knn_vote(f, eye, num_classes=2, temperature=1.0), r"knn_vote: .*\(4, 3\), \(3, 3\)"),
        (lambda: metrics.recall_at_k(f, np.zeros(3)), r"recall_at_k: .*\(4, 3\) and \(3,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
