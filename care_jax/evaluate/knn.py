"""Weighted k-nearest-neighbour accuracy on frozen features: the monitor during training."""

import math

import numpy as np

from care_jax import metrics


def knn_top1(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    num_classes: int,
    k: int,
    temperature: float,
) -> float:
    """Share of test examples whose class wins the vote of their k nearest training examples, weights exp(cos / tau).

    Args:
      train_features, test_features: [n, w], [m, w]; made unit rows here.
      train_labels, test_labels: [n], [m] int.
      num_classes: c.
      k: neighbours; at most n.
      temperature: tau of the weights (Wu et al., 2018, have k 200 and tau 0.07; the paper tau of its loss).

    Returns:
      Accuracy in [0, 1], exact over all m; NaN if any feature is.
    """
    classes = metrics.weighted_knn(
        test_features, train_features, train_labels, k=k, temperature=temperature, num_classes=num_classes
    )
    predicted = np.asarray(classes)
    return float(np.mean(predicted == test_labels)) if (predicted >= 0).all() else math.nan
