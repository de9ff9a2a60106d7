"""The sections of a run: what they show of whom, without labels too, and draws against the measures they go with."""

import jax
import numpy as np
import pytest

from care_jax import metrics
from care_jax.data import DataSet, Examples
from care_jax.devices import sharding
from care_jax.evaluate import equivariance_error, knn, pictures, planes, sections
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.evaluation import Evaluation
from care_jax.experiment import build
from care_jax.methods import Nothing


@pytest.fixture
def embedded(tiny_config, small_encoder):
    """`embedded(labellings)`: 40 digits as an encoder that was drawn sees them."""

    def make(*labellings):
        config = tiny_config(evaluate__num_augmentations=4, evaluate__batch_size=64, evaluate__knn_k=3)
        config.augment.equivariance.grayscale_probability = 0.5
        made = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(encoder=small_encoder())
        variables = jax.device_get(build.make_state(made)).variables
        parts = [
            Examples(part.images[:40], {name: part.labels[name][:40] for name in labellings})
            for part in (made.dataset.train, made.dataset.test)
        ]
        few = DataSet("few", parts[0], *parts, {name: made.dataset.num_classes[name] for name in labellings})
        return Evaluation(made._replace(dataset=few)).embedded(0, variables)

    return make


@pytest.mark.slow
def test_what_is_shown_of_a_labelled_run(embedded, monkeypatch):
    monkeypatch.setattr(planes, "neighbour_plane", lambda points: None)
    found = embedded("class", "hue")
    rows = [{"step": 1, "loss": 2.0, "learning_rate": 0.1}, {"step": 2, "loss": 1.0, "learning_rate": 0.1}]
    shown = sections.of_run(found, rows, {})
    assert {heading: len(picture.figures) for heading, picture in shown.items()} == {
        "Is an augmentation a rotation?": 1,
        "Each augmentation by itself": 1,
        "How far do the rotations turn?": 2,
        "Test images in the plane": 2,
        "Around a full turn": 2,
        "Nearest neighbours before and after a hue change": 1,
        "Which classes are taken for which": 1,
        "Training": 2,
        "Drawn augmentations": 1,
    }
    untrained = found.experiment.objective._replace(method=Nothing(), term=None)
    of_features = EmbeddedDataSet(found.experiment._replace(objective=untrained), found._make, found.variables)
    of_features._parts = found._parts
    assert [*sections.of_run(of_features, rows, {})] == [*shown][-3:]  # embeddings would be of nothing

    settings = found.experiment.config.evaluate
    labels, predicted = knn.votes(found, settings)
    assert 100 * np.mean(labels == predicted) == pytest.approx(knn.run(found, settings)["knn_top1"])

    draws = sections.draws(found, settings)
    before = np.asarray(found.part("test").embeddings, np.float64)
    measured = found.once(equivariance_error.measure, settings)
    np.testing.assert_allclose(draws.same_images, 1 - (measured.wahba / measured.displacement) ** 2)
    for i, uniforms in enumerate(equivariance_error.draws(found, settings)):
        after = np.asarray(found.drawn(uniforms, "equivariance"), np.float64)
        rotation = np.asarray(metrics.wahba(before[::2], after[::2])[0], np.float64)
        left = np.sum((before[1::2] @ rotation.T - after[1::2]) ** 2) / np.sum((before[1::2] - after[1::2]) ** 2)
        assert draws.held_out[i] == pytest.approx(1 - left, abs=1e-3)
        gray = np.ptp(_views(found, uniforms), axis=-1).max() < 1e-3
        assert draws.grayscale[i] == gray
    assert 0 < draws.grayscale.sum() < 4 and draws.angles.shape == (4, before.shape[1] // 2)
    np.testing.assert_allclose(planes.energies(before, planes.planes(rotation).bases).sum(), 1, atol=1e-6)


def _views(found, uniforms) -> np.ndarray:
    """The test images under the draw, in [0, 1]."""
    spec, images = found.experiment.plan.equivariance, found.experiment.dataset.test.pixels
    views, _ = pictures._augmented(np.tile(uniforms, (8, 1)), images[:8], spec)
    return np.asarray(views) * np.asarray(spec.std) + np.asarray(spec.mean)


@pytest.mark.slow
def test_without_labels_there_is_no_matrix_and_one_colour(embedded, monkeypatch):
    monkeypatch.setattr(planes, "neighbour_plane", lambda points: points[:, :2])
    shown = sections.of_run(embedded(), [], {})
    assert "Which classes are taken for which" not in shown
    for figure, title in zip(shown["Test images in the plane"].figures, ("", ", UMAP"), strict=True):
        assert [points.get_label() for points in figure.axes[0].collections] == ["test images"]
        assert figure.axes[0].get_title() == f"by no label{title}"
    assert "UMAP keeps neighbours" in shown["Test images in the plane"].note
    names = [line.get_label() for line in shown["Around a full turn"].figures[0].axes[0].lines]
    assert "image 0" in names and "image 39" in names


def test_fewer_rotations_of_wide_embeddings():
    assert [sections._fitted(20, d) for d in (2, 256, 512, 1024, 1025)] == [20, 20, 2, 1, 0]


def test_the_grid_of_draws_has_an_image_of_each_class():
    labels = np.asarray([3, 3, 0, 1, 1, 2], np.int32)
    examples = Examples(np.zeros((6, 4, 4, 3), np.uint8), {"class": labels})
    assert sections._of_several_classes(examples).tolist() == [0, 2, 3, 5, 1, 4]
    many = Examples(np.zeros((60, 4, 4, 3), np.uint8), {"class": np.arange(60, dtype=np.int32)})
    assert sections._of_several_classes(many)[:8].tolist() == [0, 8, 16, 25, 33, 42, 50, 59]
    assert sections._of_several_classes(Examples(many.images))[:3].tolist() == [0, 1, 2]
