"""The report in a real browser: no page wider than its window, no error, nothing asked of anyone."""

import numpy as np
import pytest

from care_jax.evaluate import embedding_pictures, evaluators, pictures, report, verdict
from care_jax.evaluate.baseline import Baseline
from care_jax.evaluate.embedding_pictures import Draws
from care_jax.evaluate.report import Picture
from care_jax.evaluate.retrieval import Retrieval
from tests import browser

pytestmark = [pytest.mark.slow, browser.NEEDED]


@pytest.fixture(scope="module")
def page() -> str:
    """With everything that a report can hold, and names as long as users make them."""
    measures = evaluators.measures(("class", "hue"))
    numbers = {name: 55.5 if measure.unit == "%" else 0.25 for name, measure in measures.items()}
    other = Baseline("equivariance.weight=0,augment.invariance.crop_scale=0.2+1,loss.method=simclr", numbers)
    rng = np.random.default_rng(0)
    some = rng.random(20)
    draws = Draws(some, some, some, some > 0.5, rng.random((20, 8)), rng.random((20, 8)) / 8)
    labels = rng.integers(12, size=500)
    names = [f"a long name of class {i}" for i in range(12)]
    images = rng.integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    rows = np.zeros((6, 5), int)
    shown = {
        "Curves": Picture(
            "of terms", pictures.training_curves([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}], {})
        ),
        "Shares": Picture("explained", (embedding_pictures.shares_explained(draws),)),
        "Spectrum": Picture("of angles", embedding_pictures.spectrum(draws)),
        "Plane": Picture("", (embedding_pictures.plane(rng.random((500, 2)), (0.5, 0.2), labels, "class", names),)),
        "Confusion": Picture("of classes", (embedding_pictures.confusion(labels, labels, names),)),
        "Neighbours": Picture("", (pictures.neighbour_grid(Retrieval(images, images, rows, rows), images),), wide=True),
    }
    return report.write_html(
        "care_jax: " + "a_data_set_with_a_name_that_does_not_end_" * 3,
        "resnet18 of width 16",
        verdict.verdict(numbers, measures, other),
        verdict.cards(numbers, measures, other),
        ("a note on " + "/a/folder" * 20,),
        {name: (numbers[name], measure) for name, measure in measures.items()},
        shown,
        {"data.root": "/a/folder" * 20, "augment.equivariance.grayscale_probability": 0.2},
        (other.name, other.numbers),
    )


@pytest.mark.parametrize(("width", "dark"), [(400, True), (1200, False)])
def test_the_report_in_a_browser(page, tmp_path, width, dark):
    browser.check(page, tmp_path, width, dark, "rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
