"""Nearest neighbours against scikit-learn, and the same ones on any number of devices."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from care_jax import metrics
from care_jax.devices import sharding
from care_jax.devices.collectives import collectives
from care_jax.evaluate import knn
from care_jax.evaluate.knn import nearest_examples, top1_of_votes
from care_jax.evaluate.rows import place


@pytest.mark.parametrize("num_devices", [1, 8])
def test_knn_is_scikit_learns(blobs, labelled, num_devices):
    (train, train_labels), (test, test_labels) = blobs(200), blobs(101, seed=1)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, test)]
    oracle = KNeighborsClassifier(10, algorithm="brute", weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.1))
    expected = oracle.fit(unit[0], train_labels).score(unit[1], test_labels)
    sets = labelled((train, train_labels), (test, test_labels), num_devices)
    found = nearest_examples(sets.train_features, sets.test_features, k=10)
    assert 0.4 < expected < 1
    assert top1_of_votes(found, sets, num_classes=3, temperature=0.1) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("num_devices", [2, 8])
@pytest.mark.parametrize("k", [3, 30])  # 30: more than a device has
def test_devices_find_the_same_examples_whoever_holds_them(num_devices, k, scattered, monkeypatch):
    """Of equal cosines the earlier example is nearer."""
    monkeypatch.setattr(knn, "_QUERIES_AT_ONCE", 8)
    rng = np.random.default_rng(0)
    axes = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))]).astype(np.float32)  # exact cosines: -1, 0, 1
    bank, queries = axes[rng.integers(0, 7, 40)], axes[rng.integers(0, 7, 21)]
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    found = nearest_examples(scattered(bank, mesh), place(queries, mesh), k=k)
    cosines, examples = (np.asarray(one)[:21] for one in found)
    expected = metrics.neighbours.nearest(queries, bank, k=k)
    np.testing.assert_array_equal(examples, expected[1])
    np.testing.assert_array_equal(cosines, expected[0])


@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("broken", ["training", "test"])
def test_a_broken_feature_has_no_accuracy(blobs, labelled, broken, num_devices):
    sets = [blobs(7), blobs(5, seed=1)]
    sets[broken == "test"][0][3, 1] = np.nan
    sets = labelled(*sets, num_devices)
    found = nearest_examples(sets.train_features, sets.test_features, k=2)
    assert np.isnan(top1_of_votes(found, sets, num_classes=3, temperature=0.1))


@pytest.mark.parametrize("num_devices", [1, 8])
def test_a_device_needs_its_share_of_imagenet_and_a_few_blocks(num_devices):
    """1,281,200 x 2048 training and 50,000 test features, compiled for shapes alone: 9.8 GiB over the devices."""
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    along = sharding.along_axis(mesh, 0)
    bank, queries = (jax.ShapeDtypeStruct((n, 2048), np.float32, sharding=along) for n in (1_281_200, 50_000))
    examples = jax.ShapeDtypeStruct((1_281_200,), np.int32, sharding=along)
    program = knn._search.lower(bank, examples, queries, k=200, mesh=mesh).compile()
    memory = program.memory_analysis()
    assert memory.temp_size_in_bytes < 0.3 * 2**30
    assert memory.argument_size_in_bytes < 1.01 * (1_281_200 + 50_000) * (2048 + 1) * 4 / num_devices
    # What goes between devices: all queries once, and the candidates for them.
    sent = sum(one.num_bytes for one in collectives(program.as_text()))
    assert sent < 1.1 * 50_000 * (2048 + 2 * 200) * 4


def test_only_as_many_neighbours_as_there_are_examples(blobs):
    mesh = sharding.make_mesh(jax.devices()[:1])
    rows = place(blobs(40)[0], mesh)
    assert nearest_examples(rows, rows, k=40)[1].shape == (40, 40)
    for k in (0, 41):
        with pytest.raises(ValueError, match=f"k must be between 1 and the bank's 40 examples; got {k}"):
            nearest_examples(rows, rows, k=k)


@pytest.mark.parametrize("part", ["training", "test"])
def test_every_example_has_one_label(blobs, labelled, part):
    sets = labelled(blobs(40), blobs(20, seed=1))
    found = nearest_examples(sets.train_features, sets.test_features, k=3)
    name = "train_labels" if part == "training" else "test_labels"
    own = getattr(sets, name)
    for labels in (own[:10], np.tile(own, 2), own[:1], own[:, None]):
        with pytest.raises(
            ValueError, match=rf"{part} labels must be \[{len(own)}\], as the features; got \({len(labels)},"
        ):
            top1_of_votes(found, sets._replace(**{name: labels}), num_classes=3, temperature=0.1)
    with pytest.raises(ValueError, match=f"{part} examples: labels must be in .* got 42949672.*, first in row 0"):
        top1_of_votes(found, sets._replace(**{name: np.int64(own) + 2**32}), num_classes=3, temperature=0.1)
