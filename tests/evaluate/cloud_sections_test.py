"""The sections of a run on clouds: what they show, whom neighbours leave out, and that they speak of clouds."""

import jax
import numpy as np
import pytest

from care_jax.configs import base
from care_jax.data import DataSet, Examples
from care_jax.devices import sharding
from care_jax.evaluate import cloud_sections, planes, sections
from care_jax.evaluate.evaluation import Evaluation
from care_jax.experiment import build
from care_jax.metrics.clouds import radius_of_gyration


def _clouds(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    clouds = np.zeros((count, 8, 4), np.float32)
    clouds[..., :3] = rng.normal(size=(count, 8, 3)) * rng.uniform(0.5, 1.5, (count, 1, 1))
    clouds[..., 3] = 1
    clouds[::2, 6:] = 0
    return clouds


@pytest.fixture
def embedded():
    """`embedded(names)`: 20 clouds as an encoder that was drawn sees them."""

    def make(names=()):
        config = base.for_clouds()
        config.update_from_flattened_dict(
            {
                "augment.invariance.jitter": 0.1,
                "augment.equivariance.rotation": True,
                "data.window_lengths": (8,),
                "data.window_stride": 4,
                "model.width": 4,
                "model.head_hidden_sizes": (8,),
                "model.head_size": 6,
                "train.batch_size": 8,
                "train.num_steps": 2,
                "equivariance.num_groups": 2,
                "evaluate.num_augmentations": 3,
                "evaluate.batch_size": 64,
            }
        )
        parts = [Examples(_clouds(20, seed), names=names) for seed in (0, 1)]
        dataset = DataSet("few", parts[0], *parts, {})
        made = build.build(config, sharding.make_mesh(jax.devices()[:1]), dataset)
        return Evaluation(made).embedded(0, jax.device_get(build.make_state(made)).variables)

    return make


@pytest.mark.slow
def test_what_is_shown_of_a_run_on_clouds(embedded, monkeypatch):
    monkeypatch.setattr(planes, "neighbour_plane", lambda points: None)
    found = embedded([f"chain {i // 5} residues {i}" for i in range(20)])
    shown = sections.of_run(found, [{"step": 1, "loss": 2.0}], {})
    assert {heading: len(picture.figures) for heading, picture in shown.items()} == {
        "Is an augmentation a rotation?": 1,
        "Each augmentation by itself": 1,
        "How far do the rotations turn?": 2,
        "Test clouds in the plane": 1,
        "Around a full turn": 1,
        "Nearest neighbours before and after a turn": 1,
        "Training": 1,
        "Drawn augmentations": 1,
    }
    for heading, picture in shown.items():
        words = [text.get_text() for figure in picture.figures for axis in figure.axes for text in axis.texts]
        words += [line.get_label() for figure in picture.figures for axis in figure.axes for line in axis.lines]
        assert "image" not in " ".join([heading, picture.note, *words])
    turns = shown["Around a full turn"].figures[0].axes
    assert [axis.get_title().partition(":")[0] for axis in turns] == ["about x", "about y", "about z"]
    assert all("roundness 0." in axis.get_title() for axis in turns)
    assert len(turns[0].lines[0].get_xdata()) == 101 and turns[0].lines[0].get_label() == "chain 0 residues 0"
    (grid,) = shown["Drawn augmentations"].figures[0].axes
    assert len(grid.images) == 5 * 8 and grid.texts[0].get_text() == "cloud" and not grid.patches
    before_and_after = shown["Nearest neighbours before and after a turn"].figures[0].axes[0]
    assert len(before_and_after.images) == 6 * 12
    assert "of the chain" in shown["Nearest neighbours before and after a turn"].note
    (plane,) = shown["Test clouds in the plane"].figures
    assert plane.axes[0].get_title() == "by radius of gyration" and len(plane.axes[0].collections) == 4
    assert not sections.draws(found, found.experiment.config.evaluate).grayscale.any()


def test_quarters_of_the_sizes():
    clouds = _clouds(40)
    labels, names = cloud_sections.size_quarters(clouds)
    radii = radius_of_gyration(clouds[..., :3], clouds[..., 3] > 0)
    assert np.bincount(labels).tolist() == [10, 10, 10, 10]
    for label, name in enumerate(names):
        low, high = map(float, name.split("–"))
        assert low - 0.01 <= radii[labels == label].min() <= radii[labels == label].max() <= high + 0.01
    same, ranges = cloud_sections.size_quarters(np.repeat(clouds[:1], 3, axis=0))
    assert len(set(same.tolist())) == 1 and len(ranges) == 4


def test_neighbours_are_of_other_origins_and_the_nearest_first():
    bank = np.asarray([[1, 0], [0.9, 0.1], [0, 1], [0.5, 0.5], [-1, 0]], float)
    found = cloud_sections.nearest(bank[[0, 2]], bank, np.asarray([0, 2]), ["a", "a", "b", "b", "c"])
    assert [one.tolist() for one in found] == [[3, 2, 4], [1, 0, 4]]


def test_examples_are_spaced_over_all():
    assert cloud_sections.spaced(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert cloud_sections.spaced(100, 4).tolist() == [0, 33, 66, 99]
