"""Shared by the tests of the evaluators: labelled points whose classes overlap."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from care_jax.devices import sharding
from care_jax.evaluate.embedded import Labelled
from care_jax.evaluate.rows import Rows, place


@pytest.fixture(scope="session")
def blobs() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`blobs(n, num_classes=3, width=5, seed=0)`: points [n, width] float32 around a center a class, labels [n]."""

    def make(n: int, num_classes: int = 3, width: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        centers = np.random.default_rng(7).normal(size=(num_classes, width))
        rng = np.random.default_rng(seed)
        labels = rng.integers(num_classes, size=n).astype(np.int32)
        return (centers[labels] + rng.normal(scale=0.9, size=(n, width))).astype(np.float32), labels

    return make


@pytest.fixture(scope="session")
def labelled() -> Callable[..., Labelled]:
    """`labelled((train, labels), (test, labels), num_devices=1)`: points over the devices."""

    def on_devices(train: tuple, test: tuple, num_devices: int = 1) -> Labelled:
        mesh = sharding.make_mesh(jax.devices()[:num_devices])
        return Labelled(place(train[0], mesh), train[1], place(test[0], mesh), test[1])

    return on_devices


@pytest.fixture(scope="session")
def scattered() -> Callable[..., Rows]:
    """`scattered(rows, mesh)`: an example lies on any device, among rows that are no one's, and broken."""

    def scatter(rows: np.ndarray, mesh: Mesh) -> Rows:
        count = len(rows) + mesh.size - len(rows) % mesh.size
        drawn = np.random.default_rng(0).permutation(count).reshape(mesh.size, -1)
        places = np.argsort(np.sort(drawn, axis=1).ravel())[: len(rows)].astype(np.int32)
        array = np.full((count, rows.shape[1]), np.nan, np.float32)
        array[places] = rows
        return Rows(place(array, mesh).array, places)

    return scatter
