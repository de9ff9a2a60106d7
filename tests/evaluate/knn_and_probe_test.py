"""Nearest neighbours and the linear probe against scikit-learn, and their exactness."""

import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from care_jax.evaluate.knn import knn_top1
from care_jax.evaluate.linear_probe import linear_probe


def _blobs(n: int, num_classes: int = 3, width: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    centers = np.random.default_rng(7).normal(size=(num_classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=n).astype(np.int32)
    return (centers[labels] + rng.normal(scale=0.9, size=(n, width))).astype(np.float32), labels


def test_knn_is_scikit_learns():
    (train, train_labels), (test, test_labels) = _blobs(200), _blobs(101, seed=1)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, test)]
    oracle = KNeighborsClassifier(10, algorithm="brute", weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.1))
    expected = oracle.fit(unit[0], train_labels).score(unit[1], test_labels)
    found = knn_top1(train, train_labels, test, test_labels, num_classes=3, k=10, temperature=0.1)
    assert 0.4 < expected < 1
    assert found == pytest.approx(expected, abs=1e-6)


def test_probe_reaches_logistic_regression():
    (train, train_labels), (test, test_labels) = _blobs(300), _blobs(200, seed=1)
    expected = LogisticRegression(C=1e4).fit(train, train_labels).score(test, test_labels)
    found = linear_probe(
        train, train_labels, test, test_labels,
        num_classes=3, optimizer=optax.adam(0.05), epochs=60, batch_size=64, num_seeds=3,
    )  # fmt: skip
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_probe_uses_every_example_once_an_epoch():
    """One epoch of gradient descent in one batch larger than the set is one step on the mean over all of it."""
    train, labels = _blobs(7, num_classes=2)
    accuracies = [
        linear_probe(
            train, labels, train, labels,
            num_classes=2, optimizer=optax.sgd(0.5), epochs=200, batch_size=batch_size, num_seeds=1,
        )[0]
        for batch_size in (7, 1000)
    ]  # fmt: skip
    assert accuracies[0] == accuracies[1]
    # The last batch of one (7 = 2 * 3 + 1) counts too: a class that only appears once is learnt.
    features, only_once = np.eye(7, dtype=np.float32), np.arange(7, dtype=np.int32)
    found = linear_probe(
        features, only_once, features, only_once,
        num_classes=7, optimizer=optax.adam(0.1), epochs=60, batch_size=3, num_seeds=2,
    )  # fmt: skip
    np.testing.assert_array_equal(found, 1.0)


def test_labels_out_of_range_are_refused():
    train, labels = _blobs(10)
    with pytest.raises(ValueError, match="outside the 2 classes"):
        linear_probe(train, labels + 5, train, labels, num_classes=2, optimizer=optax.sgd(0.1), epochs=1, batch_size=4)
