"""`report.html`: one self-contained file with the configuration, the numbers and the pictures of a run."""

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from care_jax.evaluate.measure import Measure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { margin-top: 2.2rem; font-size: 1.2rem; }
p.note { color: #57606a; max-width: 46rem; } img { max-width: 100%; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr + tr { border-top: 1px solid #e4e7eb; }
code, details { font-family: ui-monospace, monospace; font-size: .86rem; }
"""


def write_html(
    title: str,
    subtitle: str,
    numbers: Mapping[str, tuple[Any, Measure]],
    pictures: Mapping[str, tuple[Figure | None, str]],
    config: Mapping[str, Any],
) -> str:
    """The report's text.

    Args:
      title: heading.
      subtitle: a line below it.
      numbers: name -> (value, what it is).
      pictures: heading -> (figure, or None where there is nothing to show; what to see in it).
      config: setting -> value.

    Returns:
      HTML that needs no other file.
    """
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1><p class='note'>{html.escape(subtitle)}</p>",
        "<h2>Numbers</h2><table><tr><th></th><th></th><th></th><th>what it is</th><th>better</th><th>chance</th></tr>",
    ]
    for name, (value, measure) in numbers.items():
        words = (measure.unit, measure.meaning, measure.better, measure.chance)
        parts.append(
            f"<tr><td><code>{html.escape(name)}</code></td><td class='number'>{html.escape(_shown(value))}</td>"
            f"{''.join(f'<td>{html.escape(word)}</td>' for word in words)}</tr>"
        )
    parts.append("</table>")
    for heading, (figure, note) in pictures.items():
        parts.append(f"<h2>{html.escape(heading)}</h2><p class='note'>{html.escape(note)}</p>")
        if figure is not None:
            parts.append(f"<img alt='{html.escape(heading)}' src='data:image/png;base64,{png(figure)}'>")
    parts.append("<h2>Configuration</h2><details><summary>every setting of this run</summary><table>")
    for name, value in config.items():
        parts.append(f"<tr><td>{html.escape(name)}</td><td>{html.escape(repr(value))}</td></tr>")
    parts.append("</table></details></body></html>\n")
    return "\n".join(parts)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 20 else text[:12] + "…"


def png(figure: Figure) -> str:
    """A figure as a PNG in base64, for a page that needs no other file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
