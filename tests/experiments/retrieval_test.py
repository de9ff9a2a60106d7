"""Who are neighbours, and what they are scored; a colour by its mean; the sheet's words."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.data import Examples
from experiments import retrieval
from experiments.finished import FinishedTable
from experiments.retrieval import Line, Lookups


def test_neighbours_are_not_the_image_itself_and_equal_ones_are_in_order():
    bank = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.8, 0.6]])
    found = retrieval.neighbours(np.array([[1.0, 0.0], [0.0, 1.0]]), bank, np.array([0, 2]), k=9)
    assert found.tolist() == [[2, 3, 1], [1, 3, 0]]


def test_scores_by_hand():
    new = np.array([[True, False, False, False, False, True], [False] * 6])
    kept = np.array([[False, False, False, False, False, True], [True] * 6])
    rows = np.zeros((2, 6), int)
    found = retrieval.scores(Lookups(rows, rows, ~new, new, kept, np.zeros(2, bool)))
    assert found["follow"] == 10.0 and found["follow_before"] == 90.0 and found["class_kept"] == 50.0
    assert (found["recall_1"], found["recall_5"], found["recall_10"]) == (0.0, 0.0, 50.0)
    without = retrieval.scores(Lookups(rows, rows, ~new, new, None, np.zeros(2, bool)))
    assert without["follow"] == 10.0 and math.isnan(without["recall_5"]) and math.isnan(without["class_kept"])
    assert set(found) == set(retrieval.MEASURES)


def test_a_colour_is_nearer_to_the_turned_image():
    red, green = np.array([[200.0, 0.0, 0.0]]), np.array([[0.0, 200.0, 0.0]])
    found = retrieval.nearer(np.array([[10.0, 90.0, 0.0], [90.0, 10.0, 0.0]]), to=green, than=red)
    assert found.tolist() == [[True, False]]
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[..., 0] = 200
    turned = retrieval.turned(images, 1 / 3)
    assert turned.shape == images.shape and turned[0, 0, 0].argmax() == 1


def test_the_sheet_has_a_line_a_row_and_says_what_each_neighbour_has():
    images = np.zeros((4, 2, 2, 3), np.uint8)
    lines = {
        "simclr": Line(images, np.array([False, True]), np.array([True, False])),
        "care": Line(images, np.array([True, False]), np.array([True, False])),
    }
    figure = retrieval.sheet(lines)
    assert [axis.get_title() for axis in figure.axes] == [
        "image", "turned", "old class", "new colour", "image", "turned", "both", "neither",
    ]  # fmt: skip
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == ["simclr", "care"]


def _run_on(images):
    """An encoder that gives every image its mean colour."""

    def embed(variables, examples):
        means = examples.images.mean(axis=(1, 2)) + 1.0
        return SimpleNamespace(embeddings=means / np.linalg.norm(means, axis=1, keepdims=True))

    embed.side = 4
    examples = Examples(images=images)
    dataset = SimpleNamespace(clouds=False, num_classes={}, test=examples)
    part = SimpleNamespace(rows=np.arange(len(images)), embeddings=embed({}, examples).embeddings)
    embedded = SimpleNamespace(
        experiment=SimpleNamespace(dataset=dataset), part=lambda _: part, embedder=embed, variables={}, labellings=()
    )
    return SimpleNamespace(row="a", seed="0", embedded=embedded, model=SimpleNamespace(workdir="runs/a_seed_0"))


def _table(images):
    return SimpleNamespace(runs=lambda: iter([_run_on(images)]))


def test_images_that_no_turn_of_the_hue_changes_are_counted_and_nothing_else_is_refused():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    assert retrieval.analyse(_table(images)).said == () and retrieval.analyse(_table(images)).details["unchanged"] == 0
    images[:2] = images[:2, ..., :1]  # gray
    found = retrieval.analyse(_table(images))
    assert found.said == ("The turn changed 2 of 6 images not at all, for they have no colour: they count.",)
    assert found.details["unchanged"] == 2
    with pytest.raises(
        UsageError, match=r"^runs/a_seed_0: a turn of the hue changes none of 6 test images, which have"
    ):
        retrieval.analyse(_table(np.repeat(images[..., :1], 3, axis=-1)))


@pytest.mark.slow
def test_on_a_table_of_images_and_not_of_clouds(table_of_images, table_of_clouds):
    found = retrieval.analyse(FinishedTable(table_of_images), query=7)
    assert found.details["queries"] == 359 and found.details["by_labels"]
    for row in ("care", "simclr"):
        of = found.numbers[row]["0"]
        assert set(of) == set(retrieval.MEASURES) and of["recall_1"] <= of["recall_5"] <= of["recall_10"]
    with pytest.raises(UsageError, match="--query=359: the test images end at 358"):
        retrieval.analyse(FinishedTable(table_of_images), query=359)
    with pytest.raises(UsageError, match="is of clouds of points, which have no colour"):
        retrieval.analyse(FinishedTable(table_of_clouds, "care"))
