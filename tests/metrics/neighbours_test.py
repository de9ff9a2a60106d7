"""Votes of neighbours and recall: scikit-learn, loops in float64, ties, precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from care_jax import metrics
from care_jax.metrics.neighbours import merge_nearest, nearest
from tests.metrics.planted import unit_rows


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


def axes(seed: int, n: int) -> np.ndarray:
    """Rows of any length along the axes of space, or zero: cosines are -1, 0 or 1, to the last bit."""
    rng = np.random.default_rng(seed)
    directions = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))]).astype(np.float32)
    return directions[rng.integers(0, 7, n)] * np.exp2(rng.integers(-3, 4, (n, 1)), dtype=np.float32)


def stable_order(queries: np.ndarray, bank: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and rows as one sort of all of the bank has them, equal ones in their order."""
    cosines = np.sign(queries) @ np.sign(bank).T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, rows, axis=1), rows


@pytest.mark.parametrize("bank_block", [1, 2, 5, 12, 25])  # 25 rows: blocks that divide them and blocks that don't
def test_equal_cosines_go_to_the_earlier_row_across_blocks(bank_block):
    queries, bank = axes(38, 10), axes(39, 25)
    for k in (1, 7, 25):
        cosines, rows = nearest(queries, bank, k=k, bank_block=bank_block)
        np.testing.assert_array_equal(cosines, stable_order(queries, bank, k)[0])
        np.testing.assert_array_equal(rows, stable_order(queries, bank, k)[1])


def test_rows_that_do_not_count_are_nobodys_neighbours():
    queries, bank = axes(40, 10), axes(41, 25)
    counted = np.arange(25) % 3 != 1
    bank[1] = np.nan  # nor do they break anything
    for bank_block in (4, 25):
        cosines, rows = nearest(queries, bank, k=9, counted=counted, bank_block=bank_block)
        expected = stable_order(queries, bank[counted], 9)
        np.testing.assert_array_equal(cosines, expected[0])
        np.testing.assert_array_equal(rows, np.flatnonzero(counted)[expected[1]])


def test_the_nearest_of_parts_are_those_of_the_whole():
    """Parts in any order, as devices may hold them: the place in the whole bank decides between equals."""
    queries, bank = axes(42, 10), axes(43, 24)
    parts = np.arange(24).reshape(2, 6, 2).transpose(2, 0, 1).reshape(4, 6)[[2, 0, 3, 1]]
    found = [nearest(queries, bank[part], k=5) for part in parts]
    cosines = np.concatenate([one for one, _ in found], axis=1)
    rows = np.concatenate([part[rows] for part, (_, rows) in zip(parts, found, strict=True)], axis=1)
    for actual, expected in zip(merge_nearest(cosines, rows, k=5), stable_order(queries, bank, 5), strict=True):
        np.testing.assert_array_equal(actual, expected)
    cosines[3, -1] = np.nan
    broken = np.isnan(merge_nearest(cosines, rows, k=5)[0])
    np.testing.assert_array_equal(broken, np.tile(np.arange(10)[:, None] == 3, 5))


@pytest.mark.parametrize("sign", [1, -1])  # a sort puts one of them first, the other last
def test_nan_in_any_block_of_the_bank_shows(sign):
    queries = unit_rows(44, 3, 2)
    predict = partial(metrics.weighted_knn, k=2, temperature=0.1, num_classes=2, bank_block=4)
    for row in range(10):
        bank = unit_rows(45, 10, 2)
        bank[row, 0] = np.copysign(np.nan, sign)
        np.testing.assert_array_equal(predict(queries, bank, np.zeros(10, int)), [-1] * 3)


def test_a_longer_bank_takes_no_more_memory():
    """Beside the bank itself, 5 or 10 MB here: neither a unit copy of it, nor an array [block, m] of similarities."""

    def temporaries(m):
        predict = partial(metrics.weighted_knn, k=20, temperature=0.1, num_classes=10, block=100, bank_block=2048)
        shapes = [((1000, 64), np.float32), ((m, 64), np.float32), ((m,), np.int32)]
        compiled = jax.jit(predict).lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(40_000) < 1.01 * temporaries(20_000) < 3e6


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
    labelled = partial(metrics.weighted_knn, f, f, k=1, temperature=0.1, num_classes=2)
    vote = partial(metrics.knn_vote, f, np.zeros((4, 3), int), num_classes=2)
    vote_of = partial(metrics.knn_vote, f, num_classes=2, temperature=1.0)
    for call, message in [
        (lambda: knn(k=5), "k must be between 1 and the bank's 4 rows; got 5"),
        (lambda: knn(k=0), "got 0"),
        (lambda: knn(k=1, temperature=0.0), "temperature must be positive; got 0.0"),
        (lambda: knn(k=1, bank_block=0), "block and bank_block must be positive; got 1024, 0"),
        (lambda: metrics.weighted_knn(f, f[:, :2], f[:, 0], k=1, temperature=1.0, num_classes=2), r"\(4, 2\)"),
        (lambda: metrics.weighted_knn(f, f, f, k=1, temperature=1.0, num_classes=2), r"as many labels; .*\(4, 3\)"),
        (lambda: vote(temperature=-1.0), "temperature must be positive; got -1.0"),
        (lambda: vote(temperature=1.0, num_classes=0), "knn_vote: num_classes must be positive; got 0"),
        (lambda: metrics.knn_vote(f, eye, num_classes=2, temperature=1.0), r"knn_vote: .*\(4, 3\), \(3, 3\)"),
        (lambda: vote(temperature=np.ones(2)), r"^knn_vote: temperature must be a scalar; got shape \(2,\)"),
        (lambda: metrics.knn_vote(f, f, num_classes=2, temperature=1.0), "^knn_vote: labels must be integers; got"),
        (lambda: labelled(np.zeros(4)), "^weighted_knn: labels must be integers; got float64"),
        (lambda: labelled([0, 1, 2, 3]), r"^weighted_knn: labels must be in \[0, 2\); got 2, first in row 2"),
        (lambda: labelled([0, -1, 1, 0]), r"^weighted_knn: labels must be in \[0, 2\); got -1, first in row 1"),
        (lambda: metrics.recall_at_k(f, np.zeros(4)), "^recall_at_k: labels must be integers; got float64"),
        (lambda: metrics.recall_at_k(np.full((4, 3), "a"), np.full(4, "a")), "^recall_at_k: .* integers; got <U1"),
        (lambda: labelled(["cat", "dog", "cat", "dog"]), "^weighted_knn: labels must be integers; got <U3"),
        (lambda: vote_of(np.full((4, 3), "a")), "^knn_vote: labels must be integers; got <U1"),
        (lambda: metrics.recall_at_k(f, np.zeros(3)), r"recall_at_k: .*\(4, 3\) and \(3,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


WIDE = [2**32, 2**32 + 1, 2**31, -(2**31) - 1, np.uint64(2**63), np.uint32(2**32 - 1)]


@pytest.mark.parametrize("label", WIDE)
def test_labels_that_int32_does_not_hold_are_refused(label):
    """They would be cut to 32 bits, and be another class."""
    f, labels = np.eye(4, dtype=np.float32), np.zeros(4, np.asarray(label).dtype)
    labels[1] = label
    message = rf"labels must be in \[-2147483648, 2147483648\); got {label}, first in row 1"
    with pytest.raises(ValueError, match=f"^recall_at_k: {message}"):
        metrics.recall_at_k(labels[:, None], np.zeros(4, int))
    with pytest.raises(ValueError, match=f"^recall_at_k: {message}"):
        metrics.recall_at_k(np.zeros((4, 1), int), labels)
    with pytest.raises(ValueError, match=f"^knn_vote: {message}"):
        metrics.knn_vote(f[:, :1], labels[:, None], num_classes=2, temperature=1.0)
    with pytest.raises(ValueError, match=rf"^weighted_knn: labels must be in \[0, 2\); got {label}, first in row 1"):
        metrics.weighted_knn(f, f, labels, k=1, temperature=1.0, num_classes=2)
    with pytest.raises(ValueError, match=r"integers; got object|2147483648"):
        metrics.recall_at_k([[int(label)]], [1])


def test_labels_of_any_integer_type_and_of_any_container_are_taken():
    retrieved, own = np.array([[1, 2], [0, 3], [5, 5]]), np.array([2, 0, 4])
    for dtype in (np.int8, np.uint64, jnp.int4):
        assert metrics.recall_at_k(retrieved.astype(dtype), own.astype(dtype)) == np.float32(2 / 3)
    assert metrics.recall_at_k(retrieved.tolist(), own.tolist()) == np.float32(2 / 3)
    assert metrics.recall_at_k(jnp.asarray(retrieved), list(jnp.asarray(own))) == np.float32(2 / 3)
    assert jax.jit(lambda a, b: metrics.recall_at_k([[a, b]], [b]))(1, 2) == 1.0
    with jax.enable_x64(True):
        assert metrics.recall_at_k(np.array([[2**32 + 1]]), np.array([1])) == 0.0
        assert metrics.recall_at_k(np.array([[2**32 + 1]]), np.array([2**32 + 1])) == 1.0
