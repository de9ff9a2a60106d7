"""Pictures of what is missing, constant or broken: drawn as far as there is something to show."""

import math
import warnings

import numpy as np
import pytest

from care_jax.augment import AugmentSpec, CloudSpec, ViewPlan
from care_jax.evaluate import pictures
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.retrieval import Retrieval


@pytest.fixture(autouse=True)
def no_warning():
    """Matplotlib warns of axes without an extent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("bank", "neighbours"), [(1, 0), (2, 1), (3, 2)])
def test_fewer_neighbours_than_asked_for(bank, neighbours):
    images = np.zeros((bank, 8, 8, 3), np.uint8)
    rows = np.zeros((1, neighbours), int)
    figure = pictures.neighbour_grid(Retrieval(images[:1], images[:1], rows, rows), images)
    shown = [] if figure is None else [image.get_extent() for image in figure.axes[0].images]
    places = [at for at in range(2 * neighbours + 3) if at != neighbours + 1]
    assert [extent[0] for extent in shown] == (places if neighbours else [])


def test_curves_of_missing_numbers():
    rows = [{"step": 1, "loss": 2.0, "knn_top1": None}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": 1.0}]
    measures = {"knn_top1": Measure("", unit="%", heading="kNN"), "wahba_mean": Measure("")}
    figures = pictures.training_curves([*rows, {"step": 3, "wahba_mean": 0.5, "learning_rate": 0.1}], measures)
    axes = [axis for figure in figures for axis in figure.axes]
    assert [axis.get_title() for axis in axes] == ["loss, total", "kNN, %", "wahba mean", "learning rate"]
    assert [axis.get_ylabel() for axis in axes] == ["loss", "%", "value", "rate"]
    assert pictures.training_curves([], {}) == []


def test_the_boxes_on_an_image_are_those_that_its_views_show():
    """Of an image whose pixels say where they are: a crop's mean is that of its box."""
    spec = AugmentSpec(size=16, mean=(0.0,) * 3, std=(1.0,) * 3, crop="random_resized", crop_scale=(0.2, 0.4))
    plan = ViewPlan(spec, spec, seed=0, batch_size=2, equivariance_batch_size=2, num_groups=1)
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0], image[..., 1] = 8 * np.arange(32)[:, None], 8 * np.arange(32)
    axis = pictures.augmentation_grid(plan, np.stack([image, image])).axes[0]
    assert len(axis.images) == 2 * 5 and len(axis.patches) == 2 * 4
    for i, box in enumerate(axis.patches):
        line, column = divmod(i, 2)
        view = np.asarray(axis.images[2 * (line + 1) + column].get_array())[..., :2].astype(float)
        middle = np.asarray([box.get_y() + box.get_height() / 2, box.get_x() - column + box.get_width() / 2]) / 0.88
        np.testing.assert_allclose(view.mean((0, 1)), (32 * middle - 0.5) * 8 / 255, atol=0.03)
    of_group = [(box.get_x() - i % 2, box.get_y(), box.get_width()) for i, box in enumerate(axis.patches)]
    np.testing.assert_allclose(of_group[4::2], of_group[5::2], atol=1e-6)
    assert not np.allclose(of_group[0], of_group[1])


def test_views_of_clouds_are_those_of_a_step_to_one_scale():
    """One branch only changes the size, of all clouds of a group alike; the other draws nothing."""
    plan = ViewPlan(CloudSpec(), CloudSpec(scaling=2.0), seed=0, batch_size=3, equivariance_batch_size=3, num_groups=1)
    clouds = np.zeros((3, 2, 4), np.float32)
    clouds[:, :, 0], clouds[..., 3] = [-1, 1], 1
    axis = pictures.cloud_grid(plan, clouds).axes[0]
    lines = np.split(np.stack([image.get_array() for image in axis.images]), 5)
    assert [text.get_text().replace("\n", " ") for text in axis.texts] == [
        *("cloud", "invariance, first", "invariance, second", "equivariance, first", "equivariance, second")
    ]
    for line in lines:
        assert (line == line[:1]).all()
    np.testing.assert_array_equal(lines[0], lines[1])
    assert (lines[0] != lines[3]).any() and (lines[3] != lines[4]).any()


def test_a_long_title_of_a_curve_has_two_lines():
    measures = {"a": Measure("", unit="degrees", heading="principal component, direct, features")}
    axis = pictures.training_curves([{"step": 1, "a": 1.0}], measures)[0].axes[0]
    assert axis.get_title() == "principal component, direct, features,\ndegrees"
