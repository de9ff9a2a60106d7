"""Nearest neighbours against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from care_jax.evaluate.knn import knn_top1


def test_knn_is_scikit_learns(blobs):
    (train, train_labels), (test, test_labels) = blobs(200), blobs(101, seed=1)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, test)]
    oracle = KNeighborsClassifier(10, algorithm="brute", weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.1))
    expected = oracle.fit(unit[0], train_labels).score(unit[1], test_labels)
    found = knn_top1(train, train_labels, test, test_labels, num_classes=3, k=10, temperature=0.1)
    assert 0.4 < expected < 1
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("broken", ["training", "test"])
def test_a_broken_feature_has_no_accuracy(blobs, broken):
    sets = [blobs(7), blobs(5, seed=1)]
    sets[broken == "test"][0][3, 1] = np.nan
    assert np.isnan(knn_top1(*sets[0], *sets[1], num_classes=3, k=2, temperature=0.1))
