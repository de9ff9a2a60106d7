"""The linear probe against scikit-learn, its exactness, and what it needs of a device."""

import jax
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression

from care_jax.devices import sharding
from care_jax.evaluate.embedded import Labelled
from care_jax.evaluate.linear_probe import _train_and_test, linear_probe
from care_jax.train.optim import make_optimizer


def probe(sets: Labelled, num_classes: int, **settings) -> np.ndarray:
    """Of one labelling."""
    train_features, train_labels, test_features, test_labels = sets
    labels = {"class": train_labels}, {"class": test_labels}
    settings["num_classes"] = {"class": num_classes}
    return linear_probe(train_features, labels[0], test_features, labels[1], **settings)["class"]


def test_probe_reaches_logistic_regression(blobs, labelled):
    (train, train_labels), (test, test_labels) = blobs(300), blobs(200, seed=1)
    expected = LogisticRegression(C=1e4).fit(train, train_labels).score(test, test_labels)
    settings = {"num_classes": 3, "optimizer": optax.adam(0.05), "epochs": 60, "batch_size": 64}
    found = probe(labelled((train, train_labels), (test, test_labels)), num_seeds=3, **settings)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.slow
def test_probe_uses_every_example_once_an_epoch(blobs, labelled):
    """One epoch of gradient descent in one batch larger than the set is one step on the mean over all of it."""
    train, labels = blobs(7, num_classes=2)
    accuracies = [
        probe(
            labelled((train, labels), (train, labels)),
            num_classes=2, optimizer=optax.sgd(0.5), epochs=200, batch_size=batch_size, num_seeds=1,
        )[0]
        for batch_size in (7, 1000)
    ]  # fmt: skip
    assert accuracies[0] == accuracies[1]
    # The last batch of one (7 = 2 * 3 + 1) counts too: a class that only appears once is learnt.
    features, only_once = np.eye(7, dtype=np.float32), np.arange(7, dtype=np.int32)
    found = probe(
        labelled((features, only_once), (features, only_once)),
        num_classes=7, optimizer=optax.adam(0.1), epochs=60, batch_size=3, num_seeds=2,
    )  # fmt: skip
    np.testing.assert_array_equal(found, 1.0)


def test_labels_out_of_range_are_refused(blobs, labelled):
    train, labels = blobs(10)
    sets = labelled((train, labels + 5), (train, labels))
    with pytest.raises(ValueError, match="outside the 2 classes"):
        probe(sets, num_classes=2, optimizer=optax.sgd(0.1), epochs=1, batch_size=4)


@pytest.mark.parametrize("part", ["training", "test"])
def test_every_example_has_one_label(blobs, labelled, part):
    sets = labelled(blobs(40), blobs(20, seed=1))
    name = "train_labels" if part == "training" else "test_labels"
    own = getattr(sets, name)
    for labels in (own[:10], np.tile(own, 2), own[:1], own[:, None]):
        with pytest.raises(ValueError, match=rf"{part} labels 'class' must be \[{len(own)}\], as the features; got"):
            probe(sets._replace(**{name: labels}), 3, optimizer=optax.sgd(0.1), epochs=1, batch_size=4)


@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("broken", ["training", "test"])
def test_a_broken_feature_has_no_accuracy(blobs, labelled, broken, num_devices):
    sets = [list(blobs(7, num_classes=2)) for _ in range(2)]
    sets[broken == "test"][0][3, 1] = np.nan
    settings = {"num_classes": 2, "optimizer": optax.sgd(0.5), "epochs": 1, "batch_size": 7}
    assert np.isnan(probe(labelled(*sets, num_devices), num_seeds=1, **settings)).all()


@pytest.mark.slow
def test_devices_train_the_same_probe(blobs, labelled, scattered):
    """Examples, orders and starts are the same; sums over a batch differ by rounding, which no accuracy shows here."""
    sets = blobs(203), blobs(250, seed=1)
    settings = {"num_classes": 3, "optimizer": optax.adam(0.05), "epochs": 3, "batch_size": 32, "num_seeds": 2}
    one, several = (probe(labelled(*sets, num_devices), **settings) for num_devices in (1, 8))
    np.testing.assert_array_equal(several, one)
    train, test = (scattered(features, sharding.make_mesh()) for features, _ in sets)
    np.testing.assert_array_equal(probe(Labelled(train, sets[0][1], test, sets[1][1]), **settings), one)
    assert one[0] != one[1]


@pytest.mark.slow
def test_probes_of_several_labellings_know_nothing_of_each_other(blobs, labelled):
    sets = labelled(blobs(50), blobs(200, seed=1))
    tints = sets.train_labels % 2, sets.test_labels % 2
    settings = {"optimizer": make_optimizer("lars", lambda step: 10.0), "epochs": 3, "batch_size": 16, "num_seeds": 2}
    labels = [{"class": of_class, "hue": tint} for of_class, tint in zip(sets[1::2], tints, strict=True)]
    train, test = sets[::2]
    together = linear_probe(train, labels[0], test, labels[1], num_classes={"class": 3, "hue": 2}, **settings)
    np.testing.assert_array_equal(together["class"], probe(sets, 3, **settings))
    of_tints = Labelled(train, tints[0], test, tints[1])
    np.testing.assert_array_equal(together["hue"], probe(of_tints, 2, **settings))
    assert (together["class"] != together["hue"]).all()


@pytest.mark.parametrize("num_devices", [1, 8])
def test_a_device_needs_its_share_of_imagenet_and_a_batch(num_devices):
    """Features are arguments, each device's its share, and no program gathers them: shapes alone are compiled."""
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    along = sharding.along_axis(mesh, 0)
    train, test = (jax.ShapeDtypeStruct((n, 2048), np.float32, sharding=along) for n in (1_281_200, 50_000))
    labels, test_labels = (jax.ShapeDtypeStruct((n,), np.int32) for n in (1_281_167, 50_000))
    settings = {"num_classes": (("class", 1000),), "optimizer": optax.sgd(0.1, 0.9), "epochs": 60, "batch_size": 4096}
    of_each = {"class": labels}, test, {"class": test_labels}
    program = _train_and_test.lower(train, labels, *of_each, np.arange(3), mesh=mesh, **settings)
    memory = program.compile().memory_analysis()
    assert memory.argument_size_in_bytes < 1.01 * (1_281_200 + 50_000) * 2048 * 4 / num_devices + 2 * 1_281_200 * 4
    assert memory.temp_size_in_bytes < 0.3 * 2**30
