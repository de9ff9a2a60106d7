"""Shared by the tests of the evaluators: labelled points whose classes overlap."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def blobs() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`blobs(n, num_classes=3, width=5, seed=0)`: points [n, width] float32 around a center a class, labels [n]."""

    def make(n: int, num_classes: int = 3, width: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        centers = np.random.default_rng(7).normal(size=(num_classes, width))
        rng = np.random.default_rng(seed)
        labels = rng.integers(num_classes, size=n).astype(np.int32)
        return (centers[labels] + rng.normal(scale=0.9, size=(n, width))).astype(np.float32), labels

    return make
