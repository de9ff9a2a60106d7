"""The report in a real browser: no page wider than its window, no error, nothing asked of anyone."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from care_jax.evaluate import embedding_pictures, evaluators, pictures, report, verdict
from care_jax.evaluate.baseline import Baseline
from care_jax.evaluate.embedding_pictures import Draws
from care_jax.evaluate.report import Picture
from care_jax.evaluate.retrieval import Retrieval

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]
# Written into the document once all is laid out, also with all that is folded opened.
PROBE = """<script>window.onload = () => {
  const seen = [];
  const look = () => seen.push(`${document.documentElement.scrollWidth}/${window.innerWidth}`);
  look();
  document.querySelectorAll('details').forEach(one => one.open = true);
  look();
  const images = [...document.images];
  document.body.dataset.seen = [
    seen.join(' '),
    getComputedStyle(document.body).backgroundColor,
    `${images.filter(one => one.naturalWidth > 0).length} of ${images.length} images`,
    performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length + ' requests',
    Math.min(...images.map(one => one.clientWidth)) > 250 ? 'readable' : 'small',
  ].join(', ');
}</script>"""


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
    # A window of Chromium's is never narrower than 500 pixels; a frame in it is as narrow as it is told.
    (tmp_path / "report.html").write_text(page.replace("</body>", f"{PROBE}</body>"))
    (tmp_path / "window.html").write_text(
        f"<body style='margin:0'><iframe id=frame width={width} height=900 style='border:0' src=report.html></iframe>"
        "<script>onload = () => setTimeout(() => { document.body.dataset.told ="
        " document.getElementById('frame').contentDocument.body.dataset.seen }, 200)</script>"
    )
    done = subprocess.run(
        [
            BROWSER,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
            ),
            *("--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=3000"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--window-size=1300,1000",
            "--dump-dom",
            f"file://{tmp_path / 'window.html'}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = re.search(r'data-told="([^"]*)"', done.stdout)
    assert told, done.stderr
    count = page.count("<img")
    ground = "rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)"
    assert told[1] == f"{width}/{width} {width}/{width}, {ground}, {count} of {count} images, 0 requests, readable"
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stderr
