"""The linear probe against scikit-learn, and its exactness."""

import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression

from care_jax.evaluate.linear_probe import linear_probe


def test_probe_reaches_logistic_regression(blobs):
    (train, train_labels), (test, test_labels) = blobs(300), blobs(200, seed=1)
    expected = LogisticRegression(C=1e4).fit(train, train_labels).score(test, test_labels)
    found = linear_probe(
        train, train_labels, test, test_labels,
        num_classes=3, optimizer=optax.adam(0.05), epochs=60, batch_size=64, num_seeds=3,
    )  # fmt: skip
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.slow
def test_probe_uses_every_example_once_an_epoch(blobs):
    """One epoch of gradient descent in one batch larger than the set is one step on the mean over all of it."""
    train, labels = blobs(7, num_classes=2)
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


def test_labels_out_of_range_are_refused(blobs):
    train, labels = blobs(10)
    with pytest.raises(ValueError, match="outside the 2 classes"):
        linear_probe(train, labels + 5, train, labels, num_classes=2, optimizer=optax.sgd(0.1), epochs=1, batch_size=4)


@pytest.mark.parametrize("broken", ["training", "test"])
def test_a_broken_feature_has_no_accuracy(blobs, broken):
    sets = [list(blobs(7, num_classes=2)) for _ in range(2)]
    sets[broken == "test"][0][3, 1] = np.nan
    accuracies = linear_probe(
        *sets[0], *sets[1], num_classes=2, optimizer=optax.sgd(0.5), epochs=1, batch_size=7, num_seeds=1
    )
    assert np.isnan(accuracies).all()
