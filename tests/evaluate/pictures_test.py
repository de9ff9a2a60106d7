"""Pictures of what is missing, constant or broken: drawn as far as there is something to show."""

import math
import warnings

import numpy as np
import pytest

from care_jax.evaluate import pictures
from care_jax.evaluate.equivariance_error import Equivariance
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.retrieval import Retrieval


@pytest.fixture(autouse=True)
def no_warning():
    """Matplotlib warns of axes without an extent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _measured(displacement: list[float], wahba: list[float]) -> Equivariance:
    values = np.asarray(wahba)
    return Equivariance(np.asarray(displacement), values, values, values, math.nan, values, 4, 4)


@pytest.mark.parametrize(
    ("displacement", "wahba", "top"),
    [([1.0, 2.0], [0.5, 0.5], 2.16), ([0.0, 0.0], [0.0, 0.0], 1.0), ([math.nan, 1.0], [math.nan, 0.5], 1.08)],
)
def test_a_scatter_of_ordinary_constant_and_broken_embeddings(displacement, wahba, top):
    figure = pictures.wahba_scatter(_measured(displacement, wahba))
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim() == pytest.approx((0, top))


def test_nothing_to_scatter():
    assert pictures.wahba_scatter(_measured([0.5, 0.5], [math.nan, math.nan])) is None


@pytest.mark.parametrize(("bank", "neighbours"), [(1, 0), (2, 1), (3, 2)])
def test_fewer_neighbours_than_asked_for(bank, neighbours):
    images = np.zeros((bank, 8, 8, 3), np.uint8)
    rows = np.zeros((1, neighbours), int)
    figure = pictures.neighbour_grid(Retrieval(images[:1], images[:1], rows, rows), images)
    assert figure is None if not neighbours else len(figure.axes) == 2 * neighbours + 3


def test_curves_of_missing_numbers():
    rows = [{"step": 1, "loss": 2.0, "knn_top1": None}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": 1.0}]
    measures = {"knn_top1": Measure("", unit="%", heading="kNN"), "wahba_mean": Measure("")}
    axes = pictures.loss_curves([*rows, {"step": 3, "wahba_mean": 0.5}], measures).axes
    assert [axis.get_title() for axis in axes] == ["loss, total", "kNN, %", "wahba mean"]
    assert pictures.loss_curves([], {})
