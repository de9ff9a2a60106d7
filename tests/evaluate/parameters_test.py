"""Parameters of the draws from pairs of embeddings: of an encoder that shows them, and of one that hides them."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from care_jax.augment import AugmentSpec
from care_jax.augment.sample import num_uniforms
from care_jax.data import DataError
from care_jax.devices import sharding
from care_jax.evaluate import parameters
from care_jax.evaluate.embed import Embedded
from care_jax.evaluate.measure import Missing
from care_jax.experiment import build
from care_jax.metrics.heldout import Estimate

COLORS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


class _Planted:
    """An embedded data set whose embeddings are `shown(pixels, uniforms)`; that of image `missed` can't be drawn on."""

    def __init__(self, experiment, shown, broken=False, missed=()):
        self.experiment, self.variables, self._shown, self._broken = experiment, None, shown, broken
        self._missed = missed
        self.embedder = self._embed
        self.drawn = []

    def part(self, name):
        assert name == "test"
        rows = np.arange(len(self.experiment.dataset.test))
        return Embedded(None, self._shown(self.experiment.dataset.test.pixels, None), rows)

    def _embed(self, variables, examples, uniforms, spec):
        assert spec == self.experiment.plan.equivariance and len(uniforms) == len(examples)
        self.drawn.append(uniforms)
        embeddings = self._shown(examples.pixels, uniforms)
        embeddings = np.full_like(embeddings, math.nan) if self._broken else embeddings
        rows = np.delete(np.arange(len(uniforms)), self._missed)
        return Embedded(None, embeddings[rows], rows)


def _settings(seed=0):
    return type("Settings", (), {"seed": seed})


@pytest.fixture(scope="module")
def experiment():
    """300 digits, and a branch that turns images by up to 60 degrees and nothing else."""
    from care_jax.configs import digits

    config = digits.get_config()
    config.augment.equivariance.update(jitter_probability=0.0, blur_probability=0.0, rotation_degrees=60.0)
    made = build.build(config, sharding.make_mesh(jax.devices()[:1]))
    few = dataclasses.replace(made.dataset, test=made.dataset.test.take(np.arange(300)))
    return made._replace(dataset=few)


def _angle(experiment, uniforms):
    drawn = parameters.varying(experiment.plan.equivariance, uniforms, 8)
    assert list(drawn) == ["angle"]
    return drawn["angle"]


def _vectors(pixels):
    return np.asarray(pixels, np.float64).reshape(len(pixels), -1)[:, 100:104] / 255


@pytest.mark.slow
def test_an_encoder_that_shows_the_angle_has_it_explained_and_one_that_hides_it_has_not(experiment):
    def shows(pixels, uniforms):
        angle = np.zeros(len(pixels)) if uniforms is None else _angle(experiment, uniforms)
        return np.column_stack([_vectors(pixels), angle])

    planted = _Planted(experiment, shows)
    found = parameters.run(planted, _settings())
    assert found["parameters_explained_linear"] > 0.99 and found["parameters_explained_mlp"] > 0.9
    assert len(planted.drawn) == 7 and len(np.unique(np.concatenate(planted.drawn), axis=0)) == 2100
    again = _Planted(experiment, shows)
    assert parameters.run(again, _settings()) == found
    assert not np.array_equal(_other_draws(experiment, shows), planted.drawn[0])
    hidden = parameters.run(_Planted(experiment, lambda pixels, uniforms: _vectors(pixels)), _settings())
    assert all(abs(value) < 0.1 for value in hidden.values()) and list(hidden) == list(parameters.measures(()))


def _other_draws(experiment, shows):
    other = _Planted(experiment, shows, broken=True)
    found = parameters.run(other, _settings(seed=1))
    assert all(math.isnan(value) for value in found.values())  # of broken embeddings
    return other.drawn[0]


def test_what_can_not_be_measured_is_said(experiment):
    two = experiment.dataset.test.take(np.arange(2))
    few = experiment._replace(dataset=dataclasses.replace(experiment.dataset, test=two))
    plan = experiment.plan._replace(equivariance=AugmentSpec(size=8, crop="center", **COLORS))
    for made, size, reason in (
        (few, 4, "needs at least 4 test images, there are 2"),
        (experiment, 2049, "regressions of 2,049 dimensions take too long; 2,048 do not"),
        (experiment._replace(plan=plan), 4, "augment.equivariance draws nothing"),
    ):
        planted = _Planted(made, lambda pixels, uniforms, size=size: np.ones((len(pixels), size), np.float32))
        assert parameters.run(planted, _settings()) == dict.fromkeys(parameters.measures(()), Missing(reason))


def test_an_image_that_can_not_be_read_again_ends_it(experiment):
    planted = _Planted(experiment, lambda pixels, uniforms: _vectors(pixels), missed=[7])
    with pytest.raises(
        DataError, match=r"^1 of 300 images could be read in one pass .* not in another, first image 7:"
    ):
        parameters.run(planted, _settings())


def test_what_varies_is_named_as_it_is_drawn():
    spec = AugmentSpec(
        size=8,
        crop="random_resized",
        flip_probability=0.5,
        jitter_probability=1.0,
        brightness=0.4,
        contrast=1.0,
        saturation=0.4,
        hue=0.1,
        grayscale_probability=0.5,
        blur_probability=0.5,
        solarize_probability=0.5,
        rotation_degrees=180.0,
        translation=0.2,
        **COLORS,
    )
    uniforms = np.random.default_rng(0).random((64, num_uniforms(spec)), np.float32)
    found = parameters.varying(spec, uniforms, 32)
    assert set(found) == {
        *("crop_y", "crop_x", "crop_height", "crop_width", "flip", "brightness", "contrast", "saturation", "hue"),
        *("grayscale", "blur_sigma", "solarize", "shift_y", "shift_x", "angle_sine", "angle_cosine"),
    }
    assert all(np.isfinite(column).all() and column.shape == (64,) for column in found.values())
    np.testing.assert_allclose(found["angle_sine"] ** 2 + found["angle_cosine"] ** 2, 1.0, atol=1e-6)
    assert np.abs(found["hue"]).max() <= 0.2 * np.pi + 1e-6 and found["crop_height"].max() <= 0
    whole = parameters.varying(dataclasses.replace(spec, hue=0.5), uniforms, 32)
    assert "hue" not in whole and {"hue_sine", "hue_cosine"} <= set(whole)


def test_parameters_that_are_all_alike_in_a_half_are_said(experiment, monkeypatch):
    monkeypatch.setattr(parameters, "parameters_explained", lambda *_, **__: {"flip": None})
    found = parameters.run(_Planted(experiment, lambda pixels, uniforms: _vectors(pixels)), _settings())
    told = "every drawn parameter is the same for all test images of a half"
    assert found == dict.fromkeys(parameters.measures(()), Missing(told))


def test_each_pair_is_of_one_image_and_knows_which(experiment, monkeypatch):
    """Image by image, draw by draw: the pairs of an image are in the same half only if it is known whose they are."""
    seen = {}

    def record(before, after, drawn, **settings):
        seen.update(before=before, after=after, angle=drawn["angle"], **settings)
        return dict.fromkeys(drawn, Estimate(0.5, 0.4, 0.6, 300))

    def shows(pixels, uniforms):
        angle = np.zeros(len(pixels)) if uniforms is None else _angle(experiment, uniforms)
        return np.column_stack([pixels.reshape(len(pixels), -1).sum(1), angle])

    monkeypatch.setattr(parameters, "parameters_explained", record)
    found = parameters.run(_Planted(experiment, shows), _settings())
    assert set(found.values()) == {0.5}
    sums = experiment.dataset.test.pixels.reshape(300, -1).sum(1)
    np.testing.assert_array_equal(seen["before"][:, 0], sums[seen["inputs"]])
    np.testing.assert_array_equal(seen["after"][:, 0], sums[seen["inputs"]])
    np.testing.assert_allclose(seen["after"][:, 1], seen["angle"])
    assert np.bincount(seen["inputs"]).tolist() == [7] * 300
