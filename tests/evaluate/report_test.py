"""The report is one file that needs no other, and what it shows is escaped."""

import re

from matplotlib.figure import Figure

from care_jax.evaluate import report
from care_jax.evaluate.measure import Measure


def _html() -> str:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    return report.write_html(
        "a <run>",
        "lambda & co",
        {
            "knn_top1": (98.0512, Measure("<test> images", "%", "higher", "100 / classes")),
            "hue_probe_top1": (None, Measure("not here")),
        },
        {"Loss": (figure, "falls"), "Nothing": (None, "no labels")},
        {"data.root": "<script>alert(1)</script>"},
    )


def test_needs_no_other_file():
    text = _html()
    sources = re.findall(r"(?:src|href)=['\"]([^'\"]{0,30})", text)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")


def test_shows_numbers_pictures_and_settings():
    text = _html()
    assert "98.05" in text and "–" in text
    assert "<td>%</td><td>&lt;test&gt; images</td><td>higher</td><td>100 / classes</td>" in text
    assert text.count("<img") == 1 and "no labels" in text


def test_escapes_what_users_write():
    text = _html()
    assert "<script>" not in text and "a <run>" not in text
    assert "a &lt;run&gt;" in text and "lambda &amp; co" in text
