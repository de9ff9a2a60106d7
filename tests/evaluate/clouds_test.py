"""Directions and sizes read from embeddings of turned clouds: of encoders that give the answer, and that know none."""

import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from care_jax.augment import CloudSpec, apply_cloud, draw_uniforms, sample_cloud
from care_jax.configs import base, proteins
from care_jax.data import DataSet, Examples, SkippedFiles
from care_jax.devices import sharding
from care_jax.evaluate import clouds
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.evaluation import Evaluation, monitors
from care_jax.evaluate.measure import Missing
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.metrics.clouds import radius_of_gyration

SETTINGS = SimpleNamespace(seed=0)
DIRECTIONS = ("principal_component_error", "principal_component_direct_error")
SIZES = ("radius_of_gyration_explained", "number_of_points_explained")


def examples(n: int, seed: int, length: int = 12) -> Examples:
    """Of 6 to `length` points, of several sizes, longest one way, about their own centres."""
    generator = np.random.default_rng(seed)
    mask = np.arange(length) < generator.integers(6, length + 1, size=(n, 1))
    points = generator.normal(size=(n, length, 3)) * [3.0, 1.0, 0.5] * generator.uniform(0.2, 1, size=(n, 1, 1))
    points[:, :6] += generator.normal(loc=[5.0, 0.0, 0.0], size=(n, 1, 3))  # not the same to both sides
    points -= (points * mask[..., None]).sum(axis=1, keepdims=True) / mask.sum(axis=1)[:, None, None]
    found = np.concatenate([points, np.ones((n, length, 1))], axis=-1)
    return Examples(np.where(mask[..., None], found, 0).astype(np.float32))


class Exact(linen.Module):
    """The first principal component v, its sign that of the third moment, its matrix v v', the size and the count."""

    @linen.compact
    def __call__(self, x, train=False):
        mask = x[..., 3]
        count = mask.sum(axis=1)
        centred = (x[..., :3] - (x[..., :3] * mask[..., None]).sum(1, keepdims=True) / count[:, None, None]) * x[
            ..., 3:
        ]
        _, vectors = jnp.linalg.eigh(jnp.einsum("nld,nle->nde", centred, centred, precision="highest"))
        first = vectors[..., 2]
        along = jnp.einsum("nld,nd->nl", centred, first)
        first = first * jnp.where((along**3).sum(1) < 0, -1.0, 1.0)[:, None]
        radius = jnp.sqrt((centred**2).sum((1, 2)) / count)
        squares = (first[:, :, None] * first[:, None]).reshape(-1, 9)
        told = jnp.concatenate([first, squares, radius[:, None], count[:, None]], axis=1)
        return told, told


class Blind(linen.Module):
    """Exact sizes in the features, and embeddings that are all the same."""

    @linen.compact
    def __call__(self, x, train=False):
        told, _ = Exact()(x)
        return told[:, 12:], jnp.ones((len(x), 5))


class Broken(linen.Module):
    """One embedding is not a number; the features are."""

    @linen.compact
    def __call__(self, x, train=False):
        told, _ = Exact()(x)
        return told, told.at[0, 0].set(jnp.nan)


def embedded(module, train=None, test=None, devices=1):
    mesh = sharding.make_mesh(jax.devices()[:devices])
    embedder = Embedder(module, mesh, CloudSpec(), batch_size=50, skipped=SkippedFiles())
    train, test = train or examples(70, 0), test or examples(45, 1)
    dataset = SimpleNamespace(train=train, test=test, clouds=train.clouds)
    return EmbeddedDataSet(SimpleNamespace(dataset=dataset), lambda: embedder, {})


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_an_encoder_that_gives_the_answer(devices):
    found = clouds.run(embedded(Exact(), devices=devices), SETTINGS)
    assert found.keys() == clouds.measures(()).keys()
    for begins in ("", "features_"):
        assert all(found[begins + name] < 2.0 for name in DIRECTIONS), found
        assert all(0.999 < found[begins + name] <= 1 for name in SIZES), found


def test_an_encoder_that_knows_nothing():
    found = clouds.run(embedded(Blind(), examples(200, 0), examples(200, 1)), SETTINGS)
    for name in DIRECTIONS:  # within five standard errors of a radian
        assert found[name] == pytest.approx(57.3, abs=5 * 22 / math.sqrt(800)), name
        assert found[f"features_{name}"] == pytest.approx(57.3, abs=5 * 22 / math.sqrt(800)), name
    for name in SIZES:
        assert -0.1 < found[name] <= 1e-9 and found[f"features_{name}"] > 0.999


def test_targets_turn_with_the_clouds():
    """Those of the clouds as the encoder sees them."""
    part, spec = examples(30, 2), CloudSpec(rotation=True)
    drawn = np.asarray(draw_uniforms(jax.random.key(0), (4, 30), spec))
    found = clouds._targets(part, drawn)
    seen = [np.asarray(apply_cloud(sample_cloud(rows, spec), part.pixels, spec)) for rows in drawn]
    points, mask = np.concatenate(seen)[..., :3], np.concatenate(seen)[..., 3] > 0
    np.testing.assert_allclose(found["component"], clouds.signed_component(points, mask), atol=1e-5)
    np.testing.assert_allclose(found["radius"], radius_of_gyration(points, mask), rtol=1e-5)
    np.testing.assert_array_equal(found["count"], mask.sum(axis=1))


def test_the_sign_of_a_component_is_that_of_the_longer_tail():
    points = np.array([[[0.0, 0, 3], [0, 0, -1], [0, 0, -1], [0, 0, -1], [9, 9, 9]]])
    mask = np.arange(5)[None] < 4
    np.testing.assert_allclose(clouds.signed_component(points, mask), [[0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(clouds.signed_component(-points, mask), [[0, 0, -1]], atol=1e-12)


def test_broken_embeddings_are_no_numbers():
    found = clouds.run(embedded(Broken()), SETTINGS)
    assert all(math.isnan(found[name]) for name in (*DIRECTIONS, *SIZES))
    assert all(math.isfinite(found[f"features_{name}"]) for name in (*DIRECTIONS, *SIZES))


def test_what_does_not_vary_is_missing_with_a_reason():
    """Sizes that are equal but for rounding; as many points; no direction in which points vary most."""

    def of_one_size(n, seed):
        found = examples(n, seed, length=6).pixels.copy()
        found[..., :3] /= radius_of_gyration(found[..., :3], found[..., 3] > 0)[:, None, None]
        return Examples(found)

    found = clouds.run(embedded(Exact(), of_one_size(50, 0), of_one_size(40, 1)), SETTINGS)
    assert found["radius_of_gyration_explained"] == Missing(
        "the radius of gyration is the same for all clouds of a part, 1"
    )
    assert found["number_of_points_explained"] == Missing(
        "the number of points is the same for all clouds of a part, 6"
    )
    assert all(found[name] < 3 for name in DIRECTIONS)

    cross = np.concatenate([np.eye(3), -np.eye(3)]) * np.linspace(1, 2, 40)[:, None, None]
    crosses = Examples(np.concatenate([cross, np.ones((40, 6, 1))], axis=-1).astype(np.float32))
    found = clouds.run(embedded(Exact(), crosses, crosses), SETTINGS)
    assert (
        found[DIRECTIONS[0]]
        == found[DIRECTIONS[1]]
        == Missing("no cloud has a direction in which its points vary most")
    )
    assert found["radius_of_gyration_explained"] > 0.99


def test_of_many_clouds_some_are_seen_and_of_wide_features_none(monkeypatch):
    monkeypatch.setattr(clouds, "_MOST", 30)
    made = embedded(Exact(), examples(100, 0), examples(31, 1))
    assert [len(clouds._spaced(part)) for part in (made.experiment.dataset.train, made.experiment.dataset.test)] == [
        30
    ] * 2
    assert clouds.run(made, SETTINGS)["principal_component_error"] < 5
    monkeypatch.setattr(clouds, "_WIDEST", 13)
    found = clouds.run(made, SETTINGS)
    assert set(found.values()) == {Missing("regressions on 14 numbers take too long")}


def test_draws_are_of_the_seed():
    numbers = [clouds.run(embedded(Blind()), SimpleNamespace(seed=seed)) for seed in (0, 0, 1)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_images_have_none_of_it():
    images = Examples(np.zeros((4, 8, 8, 3), np.uint8))
    assert clouds.run(embedded(Blind(), images, images), SETTINGS) == {}
    config = base.get_config()
    config.evaluate.monitor = ("knn", "clouds@20")
    with pytest.raises(ConfigError, match=r"'clouds@20', which is of clouds of points, and this run is on images; le"):
        monitors(config)
    assert monitors(proteins.get_config()) == {"clouds": 1}


@pytest.mark.slow
def test_all_that_is_measured_of_clouds():
    """Every evaluator takes clouds: numbers where they have them, and a reason where one is missing."""
    config = proteins.get_config()
    config.model.width, config.model.head_hidden_sizes, config.model.head_size = 4, (8,), 4
    config.train.batch_size, config.equivariance.num_groups = 16, 4
    config.evaluate.num_augmentations, config.evaluate.batch_size = 2, 16
    parts = examples(40, 0), examples(30, 1)
    dataset = DataSet("clouds", parts[0], parts[0], parts[1], {})
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]), dataset)
    variables = jax.device_get(build.make_state(experiment)).variables
    found = Evaluation(experiment).measure(0, variables)
    assert found.numbers["test_examples"] == 30
    measured = {name for name, value in found.numbers.items() if value is not None}
    assert {*DIRECTIONS, *SIZES, "wahba_mean", "parameters_explained_linear", "rotation_share_explained"} <= measured
    assert all("\n" not in note for note in found.notes)
    # Labels are all that it takes for the rest.
    labelled = [dataclasses.replace(x, labels={"class": np.arange(len(x), dtype=np.int32) % 3}) for x in parts]
    config.evaluate.knn_k, config.evaluate.probe.epochs = 5, 2
    config.evaluate.finetune.update(enabled=True, num_seeds=1, epochs=1, batch_size=8)
    dataset = DataSet("clouds", labelled[0], labelled[0], labelled[1], {"class": 3})
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]), dataset)
    numbers = Evaluation(experiment).measure(0, variables).numbers
    assert 0 <= numbers["knn_top1"] <= 100 and 0 <= numbers["linear_probe_top1"] <= 100
    assert 0 <= numbers["finetune_top1"] <= 100
