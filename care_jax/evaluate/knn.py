"""Weighted k-nearest-neighbour accuracy on frozen features: the monitor during training."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from care_jax import metrics
from care_jax.data import CLASS
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import Measure, Numbers, prefix


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """One a labelling."""
    return {
        f"{prefix(labelling)}knn_top1": Measure(
            f"test images whose {labelling} wins the vote of their evaluate.knn_k nearest training images in cosine of "
            "the features, weights exp(cos / evaluate.knn_temperature)",
            unit="%",
            better="higher" if labelling == CLASS else "",
            chance="100 / number of classes, where they are of one size",
            heading=f"{prefix(labelling).replace('_', ' ')}kNN",
            decimals=1,
            headline=labelling == CLASS,
        )
        for labelling in labellings
    }


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Percent for each labelling; all training images vote where there are no `settings.knn_k`, which is noted."""
    numbers: Numbers = {}
    for labelling in embedded.labellings:
        name = f"{prefix(labelling)}knn_top1"
        numbers[name] = None
        if sets := embedded.labelled(labelling):
            k = min(settings.knn_k, len(sets.train_labels))
            num_classes = embedded.experiment.dataset.num_classes[labelling]
            accuracy = knn_top1(*sets, num_classes=num_classes, k=k, temperature=settings.knn_temperature)
            numbers[name] = 100.0 * accuracy
            if k < settings.knn_k:
                embedded.notes.append(f"{name}: all {k} training images vote; evaluate.knn_k is {settings.knn_k}")
    return numbers


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
