"""Pictures of measure.json: a panel an augmentation, as SVG in the page's own colour of text."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from care_jax.measure.numbers import SHARE, Numbers

# Of Okabe and Ito, told apart by the colour-blind, and lightened for light and dark paper alike.
COLOURS = {"rotation": "#2b8cd6", "linear": "#e0761a", "null": "#8a8f98"}
_SHADES = ("#9ecae8", "#62aede", "#2b8cd6", "#1c6cab", "#4a4fa8", "#7b3f9d")
_FLOOR = -0.5  # shares below are drawn there
_INK = "#010203"  # becomes the page's own


def shares(found: Mapping[str, Any]) -> dict[str, Figure]:
    """Share explained against strength, with its interval, for each augmentation."""
    return {name: _shares(name, one) for name, one in found["augmentations"].items()}


def angles(found: Mapping[str, Any]) -> dict[str, Figure]:
    """The angles of the fitted rotation, largest last, a line a strength, for each augmentation."""
    return {name: _angles(name, one) for name, one in found["augmentations"].items()}


def svg(figure: Figure) -> str:
    """The picture as an element of a page, whose colour of text it takes."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "care_jax"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    element = text.getvalue()
    return element[element.index("<svg") :].replace(_INK, "currentColor")


def _shares(name: str, one: Numbers) -> Figure:
    figure, axes = _panel(name, one["strength"])
    entries = one["strengths"]
    at, ticks = _positions(entries)
    axes.axhline(0.0, color=_INK, linewidth=0.6, alpha=0.5)
    for kind, key in (("null", "permuted_share_explained"), ("linear", "linear_share_explained"), ("rotation", SHARE)):
        colour = COLOURS[kind]
        known = [(x, entry[key]) for x, entry in zip(at, entries, strict=True) if entry[key] is not None]
        if not known:
            continue
        xs = [x for x, _ in known]
        low, mean, high = ([_drawn(share, part) for _, share in known] for part in ("low", "mean", "high"))
        if len(xs) == 1:
            errors = [[mean[0] - low[0]], [high[0] - mean[0]]]
            axes.errorbar(xs, mean, yerr=errors, fmt="o", color=colour, capsize=3)
            continue
        axes.fill_between(xs, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(xs, mean, color=colour, marker="o", markersize=3.5, linestyle=":" if kind == "null" else "-")
    axes.set_ylim(_FLOOR - 0.02, 1.04)
    axes.set_yticks([-0.5, 0.0, 0.5, 1.0])
    axes.set_xticks(at, ticks)
    return figure


def _angles(name: str, one: Numbers) -> Figure:
    figure, axes = _panel(name, "planes of the rotation, by their angle")
    entries = one["strengths"]
    for i, entry in enumerate(entries):
        quantiles = entry["angles"]["quantiles"]
        shade = _SHADES[round(i * (len(_SHADES) - 1) / max(len(entries) - 1, 1))]
        label = None if entry["strength"] is None else f"{entry['strength']:g}"
        axes.plot([float(at) for at in quantiles], list(quantiles.values()), color=shade, label=label, linewidth=1.6)
    axes.set_ylim(-4.0, 184.0)
    axes.set_yticks([0, 90, 180], ["0°", "90°", "180°"])
    axes.set_xticks([0.0, 1.0], ["smallest", "largest"])
    if entries[0]["strength"] is not None:
        axes.legend(fontsize=8, frameon=False, labelcolor=_INK, title="strength", title_fontsize=8, loc="upper left")
        axes.get_legend().get_title().set_color(_INK)  # type: ignore[union-attr]
    return figure


def _panel(name: str, below: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.4, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.set_title(name, fontsize=11, color=_INK)
    axes.set_xlabel(below, fontsize=9, color=_INK)
    axes.patch.set_alpha(0.0)
    axes.tick_params(colors=_INK, labelsize=8.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    return figure, axes


def _positions(entries: list[Numbers]) -> tuple[list[float], list[str]]:
    """Where strengths are drawn, and what stands there."""
    values = [entry["strength"] for entry in entries]
    if None in values:
        return [float(i) for i in range(len(values))], ["" for _ in values]
    apart = 0.08 * (max(values) - min(values))
    shown: list[float] = []
    for value in sorted(values, reverse=True):
        if not shown or shown[-1] - value >= apart:
            shown.append(value)
    return values, [f"{value:g}" if value in shown else "" for value in values]


def _drawn(share: Numbers, part: str) -> float:
    value = share[part]
    return max(_FLOOR, share["mean"] if value is None else value)
