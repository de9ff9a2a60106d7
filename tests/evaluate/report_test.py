"""The report is one file that needs no other, what it shows is escaped, and it says where to look."""

import re

import numpy as np
import pytest

from care_jax.evaluate import plots, report
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.report import Picture
from care_jax.evaluate.verdict import Card


@pytest.fixture(scope="module")
def text() -> str:
    lines, axis = plots.panel(2, 2)
    axis.plot([0, 1])
    axis.set_title("falls")
    pixels, axis = plots.panel(2, 2)
    axis.imshow(np.zeros((2, 2)))
    return report.write_html(
        "a <run>",
        "lambda & co",
        "Classes are kept, 98.1 % <kNN>.",
        [Card("k<NN", "98.1 %", "± 0.3", "higher is better", "chance 10 %", "94 % in <other>, this is better")],
        ["not <compared>"],
        {
            "knn_top1": (98.0512, Measure("<test> images", "%", "higher", "100 / classes", decimals=2)),
            "hue_probe_top1": (None, Measure("not here")),
        },
        {
            "Loss": Picture("falls", (lines, pixels)),
            "Nothing": Picture("no labels"),
            "Wide": Picture("", (lines,), True),
        },
        {"data.root": "<script>alert(1)</script>"},
        ("<other>", {"knn_top1": 94.0}),
    )


def test_needs_no_other_file(text):
    sources = re.findall(r"(?:src|href)=['\"]([^'\"]{0,22})", text)
    kinds = [source.split(";")[0].removeprefix("data:image/") for source in sources]
    assert kinds == ["svg+xml", "png", "svg+xml"]
    assert "http" not in re.sub(r"base64,[^']*", "", text)


def test_shows_verdict_cards_numbers_pictures_and_settings(text):
    assert "<p class='verdict'>Classes are kept, 98.1&nbsp;% &lt;kNN&gt;.</p>" in text
    assert "<h3>k&lt;NN</h3><b>98.1 %</b> <span>± 0.3</span><p>higher is better; chance 10 %</p>" in text
    assert "<li>not &lt;compared&gt;</li>" in text
    cells = re.findall(r"<td class='number' data-of='([^']*)'>([^<]*)<", text)
    of = "&lt;other&gt;"
    assert cells == [("this run", "98.05 %"), (of, "94.00 %"), ("this run", "–"), (of, "")]
    assert "&lt;test&gt; images<span>higher is better; chance: 100 / classes</span>" in text
    assert text.count("<img") == 3 and "no labels" in text and "alt='Loss: falls'" in text
    assert text.count("class='figures whole'") == 1


def test_is_made_for_narrow_dark_and_printed_pages(text):
    assert "<meta name='viewport' content='width=device-width, initial-scale=1'>" in text
    for query in ("prefers-color-scheme: dark", "media print", "max-width: 40rem"):
        assert query in text


def test_escapes_what_users_write(text):
    assert "<script>" not in text and "a <run>" not in text and "<other>" not in text
    assert "a &lt;run&gt;" in text and "lambda &amp; co" in text


def test_light_and_dark_have_the_same_colours():
    names = [re.findall(r"--([a-z]+):", palette) for palette in (report._LIGHT, report._DARK)]
    assert names[0] == names[1]
    assert set(re.findall(r"var\(--([a-z]+)\)", report.STYLE + report._STYLE)) <= set(names[0])
