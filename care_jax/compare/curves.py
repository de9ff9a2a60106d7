"""Curves of several runs over each other, one picture a term of the loss or a monitor's measure."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from care_jax.compare.fairness import measure_of
from care_jax.compare.groups import Group
from care_jax.compare.runs import FoundRun
from care_jax.evaluate import pictures, plots
from care_jax.evaluate.evaluators import OF_THE_RUN
from care_jax.evaluate.measure import Measure

_DASHES = ("solid", "dashed", "dotted", "dashdot")
_FAR = 20  # times as long: on one axis the shorter run would be a dot
_FEW = 30  # points, which are marked


def style(index: int) -> tuple[str, str]:
    """Colour and dashes of a group; 28 differ."""
    return plots.PALETTE[index % len(plots.PALETTE)], _DASHES[index // len(plots.PALETTE) % len(_DASHES)]


def draw(groups: Sequence[Group]) -> dict[str, Figure]:
    """By title; of each group the mean over its seeds, where they have rows of the same steps, and each seed thinly.

    The axis counts steps; images seen, where batches differ in size.
    """
    rows = [row for one in groups for run in one.runs for row in run.rows]
    batches = {one.settings.get("train.batch_size") for one in groups}
    in_images = len(batches) > 1 and all(type(batch) is int for batch in batches)
    figures = {}
    for name in pictures.curve_names(rows):
        measure = measure_of(name) if name not in OF_THE_RUN else None
        title = pictures.curve_title(name, measure if measure and measure.meaning else None)
        figures[title] = _figure(groups, name, title, measure, in_images)
    return figures


def _figure(groups: Sequence[Group], name: str, title: str, measure: Measure | None, in_images: bool) -> Figure:
    figure, axis = plots.panel(4.6, 3.2)
    lasts = []
    for index, one in enumerate(groups):
        batch = one.settings["train.batch_size"] if in_images else 1
        found = [points for run in one.runs if (points := _points(run, name, batch))]
        lasts += [max(points) for points in found]
        colour, dashes = style(index)
        several = len(found) > 1
        for points in found:
            marker = "o" if not several and len(points) < _FEW else None
            width, alpha = (0.7, 0.4) if several else (1.6, 1.0)
            axis.plot(*_xy(points), color=colour, linestyle=dashes, lw=width, alpha=alpha, marker=marker, markersize=3)
        if several and (mean := _mean(found)):
            axis.plot(*_xy(mean), color=colour, linestyle=dashes, lw=1.8)
    if lasts and max(lasts) > _FAR * max(min(lasts), 1):
        axis.set_xscale("log")
    axis.set_title(title + {"higher": " ↑", "lower": " ↓"}.get(measure.better if measure else "", ""))
    axis.set_xlabel(f"{_noun(groups)} seen" if in_images else "step")
    return figure


def _noun(groups: Sequence[Group]) -> str:
    """What the runs train on: only those on clouds cut windows."""
    kinds = {"clouds" if "data.window_lengths" in one.settings else "images" for one in groups}
    return kinds.pop() if len(kinds) == 1 else "images or clouds"


def _points(run: FoundRun, name: str, batch: int) -> dict[float, float]:
    return {row["step"] * batch: row[name] for row in run.rows if name in row and math.isfinite(row[name])}


def _mean(found: Sequence[Mapping[float, float]]) -> dict[float, float]:
    common = set(found[0]).intersection(*found[1:])
    return {step: sum(points[step] for points in found) / len(found) for step in sorted(common)}


def _xy(points: Mapping[float, float]) -> tuple[list[float], list[float]]:
    return list(points), list(points.values())
