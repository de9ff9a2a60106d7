"""A data set embedded for all evaluators: passes that could not read the same images are no pairs."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from care_jax.data import CLASS, DataError, DataSet, Examples
from care_jax.evaluate.embed import Embedded
from care_jax.evaluate.embedded import EmbeddedDataSet

COUNT = 6
DRAW = np.zeros(4, np.float32)


class _Experiment(NamedTuple):
    dataset: DataSet
    plan: SimpleNamespace


class _Files:
    def __len__(self):
        return COUNT

    def read(self, index):
        return b""

    def name(self, index):
        return f"photos/{index}.png"


@pytest.fixture
def embedded():
    """`embedded(missed)`: of files of which pass i can't read those in missed[i]; embeddings are the rows."""

    def make(missed):
        passes = iter(missed)

        def embed(variables, examples, *draws):
            rows = np.delete(np.arange(len(examples)), next(passes))
            return Embedded(None, rows[:, None].astype(np.float32), rows)

        files = Examples(_Files(), {CLASS: np.zeros(COUNT, np.int32)})
        other = Examples(np.zeros((3, 4, 4, 3), np.uint8), {CLASS: np.zeros(3, np.int32)})
        plan = SimpleNamespace(equivariance="ranges", invariance="others")
        dataset = DataSet("photos", other, other, files, {CLASS: 1})
        return EmbeddedDataSet(_Experiment(dataset, plan), lambda *_: embed, {})

    return make


def test_files_that_never_can_be_read_are_left_out_of_each_pass(embedded):
    made = embedded([[2], [2], [2], [2]])
    assert made.part("test").rows.tolist() == [0, 1, 3, 4, 5]
    assert made.drawn(DRAW, "equivariance").shape == made.drawn(DRAW, "invariance").shape == (5, 1)
    assert made.outputs("backbone", lambda outputs: outputs).part("test").rows.tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(("missed", "first"), [([[], [4]], 4), ([[4], []], 4), ([[1], [4]], 1)])
def test_a_draw_that_could_not_read_the_same_images_ends_the_evaluation(embedded, missed, first):
    """Also where it could read as many: their embeddings would be paired with those of other images."""
    made = embedded(missed)
    made.part("test")
    count = len({row for rows in missed for row in rows})
    told = rf"^{count} of 6 images could be read in one pass .*, first photos/{first}\.png: .* start the same command"
    with pytest.raises(DataError, match=told) as caught:
        made.drawn(DRAW, "equivariance")
    assert "\n" not in str(caught.value)


def test_nor_are_outputs_of_others_taken_for_those_of_the_same_images(embedded):
    made = embedded([[], [4]])
    made.part("test")
    with pytest.raises(DataError, match=r"first photos/4\.png"):
        made.outputs("backbone", lambda outputs: outputs).part("test")


def test_whichever_pass_comes_first(embedded):
    made = embedded([[4], [], [4]])
    made.drawn(DRAW, "equivariance")
    with pytest.raises(DataError, match=r"first photos/4\.png"):
        made.part("test")
    monitored = made.trained_on(made.experiment.dataset.train)
    assert monitored.part("test").rows.tolist() == [0, 1, 2, 3, 5]
