"""measure.html: one file that needs no other, for screens of any width, light or dark, and for paper."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from care_jax.measure import figures, table
from care_jax.measure.numbers import SHARE

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --quiet: #57606a; --line: #dfe3e8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --quiet: #9aa4af; --line: #343a42; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; } h2 { margin-top: 2rem; font-size: 1.15rem; }
p.lead { font-size: 1.2rem; max-width: 46rem; } p.note, summary { color: var(--quiet); max-width: 46rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; } tr + tr { border-top: 1px solid var(--line); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: .8rem; }
.panels svg { width: 100%; height: auto; } .key { list-style: none; padding: 0; display: flex; flex-wrap: wrap; }
.key li { margin-right: 1.4rem; } .key b { display: inline-block; width: 1.6rem; border-top: 3px solid;
  vertical-align: middle; margin-right: .4rem; } .key b.null { border-top-style: dotted; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; }
dt { color: var(--quiet); } dd { margin: 0; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { svg, tr { break-inside: avoid; } }
"""
_KEY = {"rotation": "a rotation", "linear": "any linear map", "null": "the null: a rotation of permuted pairs"}


def text(found: Mapping[str, Any]) -> str:
    """The page of the numbers that measure.json holds."""
    noun = _noun(found)
    encoder, (n, d) = found["encoder"]["name"], found["embeddings"].values()
    key = "".join(
        f"<li><b class='{kind}' style='color: {figures.COLOURS[kind]}'></b>{html.escape(words)}</li>"
        for kind, words in _KEY.items()
    )
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(f'Equivariance of {encoder}')}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Equivariance of {html.escape(encoder)}</h1><p class='lead'>{html.escape(sentence(found))}</p>",
        f"<p class='note'>{n:,} embeddings of {d:,} numbers. Each rotation is fitted to half of them, and judged "
        "on the others; intervals are 95 % bootstraps. Share explained: 1 is all of the motion, 0 no more than leaving "
        "everything where it is, and below 0 is worse than that.</p>",
        "<h2>Augmentations</h2>",
        _table(_summary(found)),
        "<p class='note'>R²: of the strength, regressed from pairs of embeddings, at random strengths. Composition: "
        "how far the rotations of two strengths, one after the other, miss what their sum does, relative to the length "
        "of the embeddings; 0 is exact.</p>",
        "<h2>Share explained against strength</h2>",
        f"<ul class='key'>{key}</ul>",
        _panels(figures.shares(found)),
        "<p class='note'>Shares below −0.5 are drawn there.</p>",
        "<h2>Angles of the fitted rotation</h2>",
        "<p class='note'>A rotation of d dimensions turns d/2 planes. Fitted to all "
        f"{noun}. A line near 0° leaves its planes alone; a straight line from 0° to 180° is what unrelated points "
        "give.</p>",
        _panels(figures.angles(found)),
        "<h2>All strengths</h2>",
        _table(table.rows(found)),
        "<p class='note'>Null: of permuted pairs. Displaced: root mean square of the motion. Gamma: median of the "
        "relative equivariance, beside what permuted pairs give; of random small moves it grows as 1 / displacement², "
        "so it is only read beside that. MRR, hit@1: the own f(a(x)) of x found from R f(x) among the held-out "
        "ones.</p>",
    ]
    if "draws" in found:
        rows = [(name, _shown(value)) for name, value in found["draws"]["numbers"].items()]
        parts += [
            f"<h2>Further numbers</h2><p class='note'>Of {html.escape(found['draws']['of'])}.</p>",
            _table(rows, head=False),
        ]
    parts += ["<h2>What was measured</h2>", _described(found), "</body></html>\n"]
    return "\n".join(parts)


def sentence(found: Mapping[str, Any]) -> str:
    """The headline in words."""
    share = found[SHARE]
    if share is None:
        return "Nothing moves under these augmentations: the encoder is invariant to them."
    noun = _noun(found)
    what = "this augmentation does" if len(found["augmentations"]) == 1 else "these augmentations do, in the mean,"
    between = "" if share["low"] is None else f" (95 %: {100 * share['low']:.0f} to {100 * share['high']:.0f})"
    if share["mean"] <= 0.005:
        return f"One rotation explains nothing of what {what} to {noun} that it was not fitted to{between}."
    return f"One rotation explains {100 * share['mean']:.0f} %{between} of what {what} to {noun} it was not fitted to."


def _noun(found: Mapping[str, Any]) -> str:
    return "clouds" if "clouds" in found else "images"


def _summary(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [["", "rotation", "95 %", "R², linear", "R², MLP", "composition"]]
    for name, one in found["augmentations"].items():
        share, known = one[SHARE], one.get("parameter_explained", {})
        between = "–" if share is None else f"{table.number(share['low'])} to {table.number(share['high'])}"
        composed = one.get("composition", {})
        cells = [table.mean(share), between, table.mean(known.get("linear")), table.mean(known.get("mlp"))]
        rows.append([name, *cells, table.mean(composed.get("error"))])
    return rows


def _table(rows: Sequence[Sequence[str]], *, head: bool = True) -> str:
    lines = []
    for i, row in enumerate(rows):
        cell = "th" if head and i == 0 else "td"
        lines.append(f"<tr>{''.join(f'<{cell}>{html.escape(value)}</{cell}>' for value in row)}</tr>")
    return f"<div class='wide'><table>{''.join(lines)}</table></div>"


def _panels(of: Mapping[str, Figure]) -> str:
    return f"<div class='panels'>{''.join(figures.svg(figure) for figure in of.values())}</div>"


def _described(found: Mapping[str, Any]) -> str:
    sections = ("encoder", _noun(found), "versions")
    facts = {f"{section}: {name}": value for section in sections for name, value in found.get(section, {}).items()} | {
        "seed": found["seed"]
    }
    items = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(_shown(value))}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(items)}</dl>"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)
