"""Shares explained of encoders whose answer is known: what is embedded once, what is null, what follows the hue."""

import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from care_jax.augment import color
from care_jax.data import Examples
from care_jax.evaluate import equivariance_error, motion
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import SEVERAL, Missing
from care_jax.metrics import motion as measures_of_motion
from tests.evaluate.equivariance_error_test import HUE, MeanColor, Noise, _embedder, _tinted

OPTIMIZED = True
SETTINGS = SimpleNamespace(num_augmentations=4, seed=0)
HUES = 12


class Counting:
    """An embedder that counts its passes over the test images."""

    def __init__(self, embedder):
        self.embedder, self.passes, self.spec = embedder, 0, embedder.spec

    def __call__(self, *args):
        self.passes += 1
        return self.embedder(*args)


class Broken(linen.Module):
    """An embedding of which the first number is NaN where the image is redder than green."""

    @linen.compact
    def __call__(self, images, train=False):
        tint = jnp.mean(images, axis=(1, 2))
        broken = tint.at[:, 0].set(jnp.where(tint[:, 0] > tint[:, 1], jnp.nan, tint[:, 0]))
        return tint, broken


class Still(linen.Module):
    """The same for every image."""

    @linen.compact
    def __call__(self, images, train=False):
        same = jnp.broadcast_to(jnp.asarray([1.0, 0.0, 0.0]), (len(images), 3))
        return same, same


def _embedded(module, n=48, hue=False, devices=1, embedder=None):
    examples = _tinted(n)
    if hue:
        examples = Examples(examples.images, {"hue": (np.arange(n) * HUES // n).astype(np.int32)})
    dataset = SimpleNamespace(test=examples, num_classes={"hue": HUES} if hue else {}, clouds=False)
    experiment = SimpleNamespace(dataset=dataset, plan=SimpleNamespace(equivariance=HUE))
    made = embedder or _embedder(module, devices)
    return EmbeddedDataSet(experiment, lambda: made, {})


@pytest.mark.slow
def test_a_rotating_encoder_and_a_hash():
    rotating, hashed = (motion.run(_embedded(module), SETTINGS) for module in (MeanColor(), Noise()))
    assert set(rotating) == set(motion.measures(()))
    assert rotating["rotation_share_explained"] > 0.98
    assert rotating["rotation_share_explained_low"] <= rotating["rotation_share_explained"]
    assert rotating["rotation_share_explained"] <= rotating["rotation_share_explained_high"]
    assert abs(rotating["rotation_share_permuted"]) < 0.2
    assert rotating["linear_share_permuted"] > 0.3
    assert rotating["composition_error"] < 0.15
    assert rotating["follow_mean_reciprocal_rank"] > 0.7
    assert hashed["rotation_share_explained"] < 0.4
    assert hashed["composition_error"] > 0.7
    assert hashed["follow_hit_at_1"] < 0.3 < rotating["follow_hit_at_1"]


@pytest.mark.slow
def test_the_numbers_are_those_of_the_metrics():
    embedded = _embedded(Noise(), n=30)
    found = motion.run(embedded, SETTINGS)
    f = embedded.part("test").embeddings
    draws = equivariance_error.draws(embedded, SETTINGS)
    fa = [embedded.drawn(draw, "equivariance") for draw in draws]
    assert found["rotation_share_explained"] == measures_of_motion.share_explained(f, fa).mean
    assert found["orthogonal_share_explained"] == measures_of_motion.share_explained(f, fa, kind="orthogonal").mean
    assert found["rotation_share_permuted"] == measures_of_motion.share_explained(f, fa, permuted=True).mean
    gamma = measures_of_motion.relative_equivariance_quantiles(f, fa)
    assert found["relative_equivariance_permuted"] == gamma.permuted[0.5]
    median = equivariance_error.run(embedded, SETTINGS)["relative_equivariance_median"]
    assert gamma.quantiles[0.5] == pytest.approx(median, rel=1e-4)
    both = [embedded.drawn(draws[i], "equivariance", then=draws[i + 1]) for i in (0, 2)]
    expected = measures_of_motion.composition(f, fa[::2], fa[1::2], both).mean
    assert found["composition_error"] == expected


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_a_composition_is_one_draw_after_the_other(devices):
    """Plain squares: turned by a, then by b, is turned by both."""
    embedded = _embedded(MeanColor(), n=20, devices=devices)
    first, second = equivariance_error.draws(embedded, SETTINGS)[:2]
    once = embedded.drawn(first, "equivariance")
    images = embedded.experiment.dataset.test.images
    turns = [float(HUE.hue * (2 * draw[motion.SLOTS["hue"]][0] - 1)) for draw in (first, second)]
    turned = color.adjust_hue(color.adjust_hue(images / np.float32(255), turns[0]), turns[1])
    expected = MeanColor().apply({}, jnp.asarray(turned))[1]
    found = embedded.drawn(first, "equivariance", then=second)
    np.testing.assert_allclose(found, expected, atol=0.02)  # bytes lie between
    assert np.abs(found - once).max() > 0.1


@pytest.mark.slow
def test_the_draws_of_the_equivariance_error_are_not_embedded_again():
    counting = Counting(_embedder(MeanColor()))
    embedded = _embedded(None, n=12, embedder=counting)
    equivariance_error.run(embedded, SETTINGS)
    assert counting.passes == 1 + 4
    motion.run(embedded, SETTINGS)
    assert counting.passes == 1 + 4 + 2  # two compositions of four draws


def test_embeddings_beyond_the_memory_are_made_again(monkeypatch):
    monkeypatch.setattr("care_jax.evaluate.embedded._KEPT_BYTES", 2 * 12 * 3 * 4)
    counting = Counting(_embedder(MeanColor()))
    embedded = _embedded(None, n=12, embedder=counting)
    for _ in range(2):
        for draw in equivariance_error.draws(embedded, SETTINGS):
            embedded.drawn(draw, "equivariance")
    assert counting.passes == 4 + 2


def test_too_few_images():
    one, three = (motion.run(_embedded(MeanColor(), n=n, hue=True), SETTINGS) for n in (1, 3))
    assert set(one.values()) == {SEVERAL}
    missing = {value for name, value in three.items() if name != "hue_follow"}
    assert missing == {Missing("needs at least 4 test images, there are 3")}
    assert isinstance(three["hue_follow"], float)


def test_one_draw_has_no_composition():
    found = motion.run(_embedded(MeanColor(), n=12), SimpleNamespace(num_augmentations=1, seed=0))
    assert found["composition_error"] == Missing("needs evaluate.num_augmentations of 2 or more")
    assert isinstance(found["rotation_share_explained"], float)


def test_what_does_not_move_has_no_share():
    found = motion.run(_embedded(Still(), n=12), SETTINGS)
    assert {name for name, value in found.items() if isinstance(value, Missing)} == {
        name for name in motion.measures(()) if "_share_" in name
    }
    assert found["composition_error"] == pytest.approx(0, abs=1e-6)


def test_broken_embeddings_are_nan():
    found = motion.run(_embedded(Broken(), n=12, hue=True), SETTINGS)
    assert all(isinstance(value, float) and math.isnan(value) for value in found.values())


def test_wide_embeddings_have_fewer_draws_and_say_so(monkeypatch):
    monkeypatch.setattr(motion, "_WIDE", 2)
    embedded = _embedded(MeanColor(), n=12)
    few = motion.run(embedded, SETTINGS)
    assert embedded.notes == ["rotations of 3 dimensions: their shares explained are of the first 1 of 4 draws"]
    assert isinstance(few["composition_error"], float)
    monkeypatch.setattr(motion, "_WIDEST", 2)
    reasons = motion.run(_embedded(MeanColor(), n=12), SETTINGS).values()
    assert set(reasons) == {Missing("rotations of 3 dimensions take too long; up to 2 do")}


@pytest.mark.slow
def test_the_neighbours_follow_the_hue_of_an_encoder_that_sees_it():
    following = motion.run(_embedded(MeanColor(), n=96, hue=True), SETTINGS)["hue_follow"]
    assert following > 70  # neighbours of the classes' edges have the next class
    assert motion.run(_embedded(Still(), n=96, hue=True), SETTINGS)["hue_follow"] < 30
    assert "hue_follow" in motion.measures(("class", "hue")) and "hue_follow" not in motion.measures(("class",))


def test_shares_of_neighbours_by_hand():
    bank = np.eye(4)[[0, 0, 1, 1, 2]]
    queries, own = np.eye(4)[[0, 1]], np.array([0, 4])
    labels, wanted = np.array([0, 1, 2, 2, 2]), np.array([1, 2])
    assert motion.share_following(queries, bank, own, labels, wanted, k=1) == 1.0  # its own row is no neighbour
    assert motion.share_following(queries, bank, own, labels, np.array([0, 2]), k=1) == 0.5
    assert motion.share_following(queries, bank, own, labels, wanted, k=9) == (1 / 4 + 2 / 4) / 2
