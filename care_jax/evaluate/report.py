"""`report.html`: one self-contained file with the verdict, the numbers, the pictures and the configuration of a run."""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from care_jax.evaluate import plots
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.verdict import Card, shown

_LIGHT = """color-scheme: light; --ground: #fff; --text: #1b1f24; --note: #57606a; --line: #e1e4e8; --card: #f6f8fa;
--accent: #0072b2; --best: #e2f0fa; --warning: #8a3b00; --figure: #fff;"""
_DARK = """color-scheme: dark; --ground: #15181c; --text: #e6e8eb; --note: #a9b1bb; --line: #363c44; --card: #1e2329;
--accent: #7cc0ee; --best: #1d3a52; --warning: #ffb27d; --figure: #f1f3f5;"""
# Of every page. Figures have a light card of their own in both modes: their lines are drawn for it.
STYLE = f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
@media print {{ :root {{ {_LIGHT} }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }}
h1, h2, p, li, summary {{ overflow-wrap: anywhere; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin-bottom: 0; }} h2 {{ margin-top: 2.2rem; font-size: 1.2rem; }}
p.note {{ color: var(--note); max-width: 46rem; }} img {{ max-width: 100%; }} a {{ color: var(--accent); }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; }}
td.number {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
tr + tr {{ border-top: 1px solid var(--line); }}
code, details table {{ font-family: ui-monospace, monospace; font-size: .86rem; }}
.wide {{ overflow-x: auto; }}
"""
_STYLE = """
p.verdict { font-size: 1.15rem; border-left: .3rem solid var(--accent); padding-left: .9rem; max-width: 52rem; }
ul.notes { color: var(--note); padding-left: 1.1rem; max-width: 46rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem; }
.card h3 { font-size: .9rem; margin: 0; color: var(--note); font-weight: 600; }
.card b { font-size: 1.6rem; font-variant-numeric: tabular-nums; } .card span { color: var(--note); }
.card p { margin: 0; font-size: .86rem; color: var(--note); } .card p.baseline { color: var(--text); }
details { margin: 1.2rem 0; } summary { cursor: pointer; }
details table { font-family: inherit; } td.words { min-width: 17rem; }
td.words span { display: block; color: var(--note); }
td code { white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(23rem, 100%), 1fr)); gap: .8rem; }
.figures.whole { display: block; }
figure { margin: 0; min-width: 0; background: var(--figure); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem; overflow-x: auto; box-sizing: border-box; }
figure img { display: block; margin: auto; height: auto; } .whole img { min-width: min(36rem, 100vw * 3); }
@media (max-width: 40rem) {
  .numbers tr:first-child { display: none; } .numbers tr, .numbers td.words { display: block; }
  .numbers td { display: inline-block; padding-bottom: 0; } .numbers td.words { padding-bottom: .5rem; min-width: 0; }
  .numbers td.number::before { content: attr(data-of) " "; color: var(--note); }
}
@media print {
  .figures { grid-template-columns: 1fr 1fr; } p.note { break-after: avoid; max-width: none; }
  body { max-width: none; margin: 0; font-size: 11px; } h2 { break-after: avoid; }
  figure, .card { break-inside: avoid; }
  .wide, figure { overflow: visible; } .whole img { min-width: 0; } td.words { min-width: 0; }
  td, th { padding: .1rem .6rem .1rem 0; } details table, details code { font-size: 9.5px; }
  details table { width: 100%; line-height: 1.3; }
  td.words { width: 62%; } td.words span { display: inline; } .settings { columns: 2; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


class Picture(NamedTuple):
    """A section of pictures.

    Attributes:
      note: what to see in them.
      figures: none where there is nothing to show.
      wide: it has the page's width, and scrolls in its box where the page is narrow.
    """

    note: str
    figures: Sequence[Figure] = ()
    wide: bool = False


def write_html(
    title: str,
    subtitle: str,
    said: str,
    cards: Sequence[Card],
    notes: Sequence[str],
    numbers: Mapping[str, tuple[Any, Measure]],
    pictures: Mapping[str, Picture],
    config: Mapping[str, Any],
    baseline: tuple[str, Mapping[str, Any]] | None = None,
) -> str:
    """The report's text.

    Args:
      title: heading.
      subtitle: a line below it.
      said: the verdict.
      cards: the numbers on top.
      notes: lines below them.
      numbers: name -> (value, what it is), of the folded table.
      pictures: heading -> section.
      config: setting -> value.
      baseline: another run's name and its numbers by their names.

    Returns:
      HTML that needs no other file.
    """
    parts = [
        f"{head(title)}<style>{STYLE}{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1><p class='note'>{html.escape(subtitle)}</p>",
        f"<p class='verdict'>{html.escape(said).replace(' %', '&nbsp;%')}</p>",
        f"<div class='cards'>{''.join(map(_card, cards))}</div>",
    ]
    if notes:
        parts.append(f"<ul class='notes'>{''.join(f'<li>{html.escape(note)}</li>' for note in notes)}</ul>")
    parts.append(_numbers(numbers, baseline))
    parts += [_section(heading, picture) for heading, picture in pictures.items()]
    parts.append("<h2>Configuration</h2><details><summary>every setting of this run</summary>")
    parts.append("<div class='wide settings'><table>")
    for name, value in config.items():
        parts.append(f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(repr(value))}</td></tr>")
    parts.append("</table></div></details></body></html>\n")
    return "\n".join(parts)


def head(title: str) -> str:
    """What a page begins with, up to its style."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title>"
    )


def img(figure: Figure, alt: str) -> str:
    """A figure in the page itself, at most as wide as it was drawn."""
    kind, content = plots.image(figure)
    width = round(96 * figure.get_figwidth())
    return f"<img alt='{html.escape(alt, quote=True)}' width='{width}' src='data:image/{kind};base64,{content}'>"


def _card(card: Card) -> str:
    lines = [line for line in (card.direction, card.chance) if line]
    spread = f" <span>{html.escape(card.spread)}</span>" if card.spread else ""
    parts = [f"<h3>{html.escape(card.heading)}</h3><b>{html.escape(card.value)}</b>{spread}"]
    if lines:
        parts.append(f"<p>{html.escape('; '.join(lines))}</p>")
    if card.baseline:
        parts.append(f"<p class='baseline'>{html.escape(card.baseline)}</p>")
    return f"<div class='card'>{''.join(parts)}</div>"


def _numbers(numbers: Mapping[str, tuple[Any, Measure]], baseline: tuple[str, Mapping[str, Any]] | None) -> str:
    heads = ["", "this run", *([baseline[0]] if baseline else []), "what it is"]
    parts = [f"<tr>{''.join(f'<th>{html.escape(one)}</th>' for one in heads)}</tr>"]
    for name, (value, measure) in numbers.items():
        values = {"this run": _cell(name, value, measure)}
        if baseline:
            values[baseline[0]] = _cell(name, baseline[1][name], measure) if name in baseline[1] else ""
        cells = (
            f"<td class='number' data-of='{html.escape(of, quote=True)}'>{html.escape(text)}</td>"
            for of, text in values.items()
        )
        better = f"{measure.better} is better" if measure.better else ""
        levels = "; ".join(filter(None, (better, measure.chance and f"chance: {measure.chance}")))
        parts.append(
            f"<tr><td><code>{html.escape(name)}</code></td>"
            f"{''.join(cells)}"
            f"<td class='words'>{html.escape(measure.meaning)}"
            f"{f'<span>{html.escape(levels)}</span>' if levels else ''}</td></tr>"
        )
    return (
        f"<details><summary>all {len(numbers)} numbers, and what they are</summary>"
        f"<div class='wide'><table class='numbers'>{''.join(parts)}</table></div></details>"
    )


def _cell(name: str, value: Any, measure: Measure) -> str:
    text = shown(name, value, measure)
    return text if len(text) <= 24 else text[:12] + "…"


def _section(heading: str, picture: Picture) -> str:
    parts = [f"<h2>{html.escape(heading)}</h2><p class='note'>{html.escape(picture.note)}</p>"]
    if picture.figures:
        of_its_own = [figure.axes[0].get_title() for figure in picture.figures]
        images = (
            f"<figure>{img(figure, f'{heading}: {title}' if title else heading)}</figure>"
            for figure, title in zip(picture.figures, of_its_own, strict=True)
        )
        parts.append(f"<div class='figures{' whole' if picture.wide else ''}'>{''.join(images)}</div>")
    return "".join(parts)
