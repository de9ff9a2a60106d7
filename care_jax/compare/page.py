"""The comparison as one HTML file that needs no other."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from care_jax.compare import curves, table
from care_jax.compare.fairness import Fairness, measure_of
from care_jax.compare.groups import Group
from care_jax.compare.table import Cell
from care_jax.errors import printable
from care_jax.evaluate import report

_STYLE = """
.wide td:first-child, .wide th:first-child { position: sticky; left: 0; background: var(--ground); max-width: 60vw; }
td, th { white-space: nowrap; } td.best { font-weight: 700; background: var(--best); }
ul.notes { color: var(--warning); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .6rem; }
.curves img { width: 100%; height: auto; background: var(--figure); border-radius: .4rem; }
.key svg { background: var(--figure); padding: .2rem; border-radius: .2rem; }
.key { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; }
.key svg { vertical-align: middle; margin-right: .4rem; } .key li { overflow-wrap: anywhere; }
"""
_DASHES = {"solid": "", "dashed": "7 3", "dotted": "2 3", "dashdot": "7 3 2 3"}


def write(
    groups: Sequence[Group],
    differing: dict[str, list[Any]],
    names: Sequence[str],
    fairness: Fairness,
    notes: Sequence[str],
    folder: Path,
) -> str:
    """The page's text.

    Args:
      groups: of runs.
      differing: the settings in which they differ -> the value of each.
      names: measures of the first table; a second one has all.
      fairness: what may be compared.
      notes: further lines for the reader, shown on top.
      folder: that the page will lie in, for links to the runs' reports.
    """
    runs = sum(len(one.runs) for one in groups)
    title = f"care_jax: {runs} run{'s' * (runs > 1)}" + (f", {len(groups)} settings" if len(groups) < runs else "")
    parts = [
        f"{report.head(title)}<style>{report.STYLE}{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    if said := [*fairness.notes, *notes]:
        parts.append(f"<ul class='notes'>{''.join(f'<li>{html.escape(note)}</li>' for note in said)}</ul>")
    if differing:
        values = [[table.shown(of_groups[i]) for of_groups in differing.values()] for i in range(len(groups))]
        lines = [["run", *differing], *([one.name, *of] for one, of in zip(groups, values, strict=True))]
        parts += ["<h2>Settings that differ</h2>", _table([[Cell(text) for text in line] for line in lines])]
    parts += [
        f"<h2>Numbers</h2><p class='note'>{html.escape(table.legend(groups))}</p>",
        _table(table.rows(groups, {}, names, fairness)),
    ]
    parts += _curves(groups)
    everything = table.measures_of(groups)
    if set(everything) - set(names):
        parts += ["<h2>All numbers</h2>", _table(_turned(table.rows(groups, {}, everything, fairness), everything))]
    parts += ["<h2>Runs</h2>", _runs(groups, folder), "</body></html>\n"]
    return "\n".join(parts)


def _table(rows: Sequence[Sequence[Cell]]) -> str:
    head, *body = rows
    lines = ["<div class='wide'><table><tr>", *(f"<th>{html.escape(cell.text)}</th>" for cell in head), "</tr>"]
    for row in body:
        shown = (
            f"<td{' class=best' if cell.mark == 'best' else ''}>{html.escape(cell.text)}"
            f"{' ≈' if cell.mark == 'near' else ''}</td>"
            for cell in row
        )
        lines.append(f"<tr>{''.join(shown)}</tr>")
    return "".join([*lines, "</table></div>"])


def _turned(rows: Sequence[Sequence[Cell]], names: Sequence[str]) -> list[list[Cell]]:
    """A line a measure, by its name in summary.json, and what it is at the end."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    columns[2:] = [[Cell(name), *column[1:]] for name, column in zip(names, columns[2:], strict=True)]
    ends = ["what it is", "", *(measure_of(name).meaning for name in names)]
    return [[*column, Cell(end)] for column, end in zip(columns, ends, strict=True)]


def _curves(groups: Sequence[Group]) -> list[str]:
    figures = curves.draw(groups)
    if not figures:
        return []
    keys = []
    for index, one in enumerate(groups):
        colour, dashes = curves.style(index)
        line = f"<line x1='0' y1='6' x2='34' y2='6' stroke='{colour}' stroke-width='3'"
        line += f" stroke-dasharray='{_DASHES[dashes]}'/>" if _DASHES[dashes] else "/>"
        unfinished = len(one.finished) < len(one.runs)
        name = f"{one.name} ({table.state(one)})" if unfinished or len(one.runs) > 1 else one.name
        keys.append(f"<li><svg width='34' height='12'>{line}</svg>{html.escape(name)}</li>")
    note = (
        "Terms of the loss before weighting, and the monitors. Of several seeds: each thinly, their mean over common "
        "steps boldly. The total loss holds each term times its weight: between other weights or methods it does not "
        "compare."
    )
    images = (report.img(figure, title) for title, figure in figures.items())
    return [
        f"<h2>Curves</h2><p class='note'>{note}</p><ul class='key'>{''.join(keys)}</ul>",
        f"<div class='curves'>{''.join(images)}</div>",
    ]


def _runs(groups: Sequence[Group], folder: Path) -> str:
    lines = []
    for one in groups:
        for run in one.runs:
            summary = run.summary or {}
            where = html.escape(printable(str(run.workdir)))
            if (run.workdir / "report.html").is_file():
                link = quote(
                    os.path.relpath(run.workdir.resolve() / "report.html", folder.resolve()), errors="surrogateescape"
                )
                where = f"<a href='{link}'>{where}</a>"
            state = "finished" if run.summary is not None else "not finished"
            words = (one.name, run.settings.get("seed", "–"), state, run.step, summary.get("device", "–"))
            lines.append(f"<tr><td>{where}</td>{''.join(f'<td>{html.escape(str(word))}</td>' for word in words)}</tr>")
    head = "".join(f"<th>{word}</th>" for word in ("folder", "run", "seed", "", "step", "device"))
    return f"<div class='wide'><table><tr>{head}</tr>{''.join(lines)}</table></div>"
