"""Pictures of embeddings that are many, few, of one point, or broken."""

import doctest
import math
import warnings

import numpy as np
import pytest

from care_jax.errors import printable
from care_jax.evaluate import embedding_pictures, plots
from care_jax.evaluate.embedding_pictures import Draws, Orbit


@pytest.fixture(autouse=True)
def no_warning():
    """Matplotlib warns of axes without an extent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _draws(displacement, held_out, grayscale=(0.0, 0.0)) -> Draws:
    angles = np.asarray([[1.0, 0.5], [math.nan, math.nan]])
    return Draws(
        np.asarray(displacement), np.asarray(held_out), np.asarray(held_out), np.asarray(grayscale) > 0, angles, angles
    )


@pytest.mark.parametrize(
    ("displacement", "held_out", "lowest"),
    [([1.0, 2.0], [0.5, 0.9], -15.0), ([0.5, 1.0], [-0.5, 0.5], -55.0), ([0.5, 1.0], [-9.0, 0.5], -100.0)],
)
def test_the_line_of_nothing_explained_stays_in_sight(displacement, held_out, lowest):
    axis = embedding_pictures.shares_explained(_draws(displacement, held_out)).axes[0]
    assert axis.get_ylim() == pytest.approx((lowest, 110))
    assert axis.get_xlim() == pytest.approx((0, 1.08 * max(displacement)))
    assert {text.get_text() for text in axis.texts} == {
        "a rotation explains nothing",
        "one rotation explains everything",
    }


def test_draws_with_grayscale_are_told_apart_and_broken_ones_left_out():
    axis = embedding_pictures.shares_explained(_draws([0.5, 1.0], [0.2, 0.4], [0.0, 1.0])).axes[0]
    marks = {line.get_label(): line.get_xydata().tolist() for line in axis.lines if "judged" in line.get_label()}
    assert marks["judged on other images than fitted to"] == [[0.5, 20.0]]
    assert [line.get_xydata().tolist() for line in axis.lines if "gray" in line.get_label()] == [[[1.0, 40.0]]]
    assert embedding_pictures.shares_explained(_draws([0.5, 1.0], [math.nan, math.nan])) is None
    assert embedding_pictures.shares_explained(_draws([0.0, 0.5], [math.nan, 0.5]))
    assert embedding_pictures.shares_explained(_draws([0.0, 0.0], [0.0, 0.0]))


def test_the_spectrum_counts_each_angle_by_the_length_in_its_plane():
    draws = _draws([1.0, 1.0], [0.5, 0.5])
    energies = np.asarray([[0.3, 0.6], [0.1, 0.4]])
    draws = draws._replace(angles=np.radians([[95.0, 5.0], [95.0, 15.0]]), energies=energies)
    ordered, weighted = embedding_pictures.spectrum(draws)
    heights = [bar.get_height() for bar in weighted.axes[0].patches]
    assert heights == pytest.approx([30.0, 20.0, *[0.0] * 7, 20.0, *[0.0] * 8])
    np.testing.assert_allclose(ordered.axes[0].lines[-1].get_ydata(), [95.0, 10.0])
    broken = draws._replace(angles=np.full((2, 2), math.nan))
    assert embedding_pictures.spectrum(broken) == []
    assert embedding_pictures.spectrum(draws._replace(angles=np.zeros((2, 0)), energies=np.zeros((2, 0)))) == []


@pytest.mark.parametrize(("count", "classes", "marks"), [(300, 10, 10), (300, 50, 21), (5000, 2, 2), (1, 1, 1)])
def test_points_in_the_plane(count, classes, marks):
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    names = [f"class {i}" for i in range(classes)]
    figure = embedding_pictures.plane(rng.normal(size=(count, 2)), [0.5, 0.25], labels, "class", names)
    axis = figure.axes[0]
    assert len(axis.collections) == marks
    assert sum(len(points.get_offsets()) for points in axis.collections) == (count if count < 2000 else 1667)
    assert plots.image(figure)[0] == ("png" if count > 400 else "svg+xml")
    looks = [
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes()) for points in axis.collections
    ]
    assert len(set(looks)) == marks


def test_hues_are_coloured_as_they_are():
    points = np.zeros((2, 2))
    red, cyan = embedding_pictures.plane(points, [0, 0], np.asarray([0, 2]), "hue", list("0123")).axes[0].collections
    assert red.get_facecolor()[0][0] > 0.7 > red.get_facecolor()[0][2]
    assert cyan.get_facecolor()[0][2] > 0.7 > cyan.get_facecolor()[0][0]


@pytest.mark.parametrize("size", [1.0, 0.0])
def test_an_orbit_is_closed_and_the_cross_is_in_the_middle(size):
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = size * np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None]
    axis = embedding_pictures.orbit(Orbit(circle, 0.5, 0.25, 1 / 8), "hue", ["7"]).axes[0]
    way = axis.lines[0].get_xydata()
    assert len(way) == 25 and way[0].tolist() == way[-1].tolist()
    assert axis.get_xlim() == axis.get_ylim() == pytest.approx((-1.08 * size or -1.0, 1.08 * size or 1.0))
    assert "by 45 degrees rotates by 29;\nit holds 25 %" in axis.get_xlabel()


def test_the_confusion_matrix_has_a_line_a_class():
    labels, predicted = np.asarray([0, 0, 1, 2, 2, 2]), np.asarray([0, 1, 1, 0, 0, 2])
    axis = embedding_pictures.confusion(labels, predicted, ["a", "b", "c"]).axes[0]
    shown = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axis.texts}
    assert shown == {(0, 0): "1", (0, 1): "1", (1, 1): "1", (2, 0): "2", (2, 2): "1"}
    np.testing.assert_allclose(axis.images[0].get_array()[2], [2 / 3, 0, 1 / 3])
    assert embedding_pictures.confused(labels, predicted, ["a", "b", "c"]) == "c taken for a (2), a taken for b (1)"
    assert embedding_pictures.confused(labels, labels, ["a", "b", "c"]) == ""
    assert embedding_pictures.confusion(labels, predicted, [str(i) for i in range(31)]) is None
    assert not doctest.testmod(embedding_pictures).failed


def test_the_same_numbers_make_the_same_file():
    made = {plots.image(embedding_pictures.shares_explained(_draws([1.0, 2.0], [0.5, 0.9])))[1] for _ in range(2)}
    assert len(made) == 1


@pytest.mark.parametrize("name", ["$0_$10", "$5 to $10", "caf\udce9", "_hidden", "a\nb"])
def test_names_of_folders_are_shown_as_they_are(name):
    """Mathematics between dollars, bytes that are no text, what a legend leaves out."""
    labels, names = np.asarray([0, 1, 1]), [name, "dog"]
    drawn = embedding_pictures.plane(np.eye(3)[:, :2], (0.5, 0.5), labels, "class", names)
    for figure in (drawn, embedding_pictures.confusion(labels, labels, names)):
        assert plots.image(figure)[1]
    (legend,) = drawn.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert len(shown) == 2 and any(text.strip().replace("\\$", "$") == printable(name)[:16].strip() for text in shown)
    embedding_pictures.confused(labels, 1 - labels, names).encode()
