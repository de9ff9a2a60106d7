"""Pictures of a run and of images: curves of the training, grids of what was drawn and of what was found."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from care_jax import augment
from care_jax.augment import AugmentSpec, CloudSpec, ViewPlan, augmented, image_spec
from care_jax.augment.augmentation import box_fractions
from care_jax.evaluate import plots
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.retrieval import Retrieval
from care_jax.evaluate.thumbnails import thumbnails

_TITLES = {
    "loss": "loss, total",
    "info_nce": "InfoNCE",
    "equivariance": "equivariance loss",
    "gradient_norm": "length of the gradient",
    "learning_rate": "learning rate",
    "online_probe_top1": "online probe (training views), %",
}
_AXES = {
    **dict.fromkeys(("loss", "info_nce", "equivariance"), "loss"),
    "gradient_norm": "length",
    "learning_rate": "rate",
}
_NO_CURVES = ("step", "images_per_second", "data_wait_share", "learning_rate")
# The views of a step that are shown: the branch, which of its two, and its colour.
_VIEWS = (
    ("invariance", 0, plots.BLUE),
    ("invariance", 1, plots.PALETTE[5]),
    ("equivariance", 0, plots.ORANGE),
    ("equivariance", 1, plots.PALETTE[4]),
)
_WORDS = ("image", "nearest to it", "hue turned", "nearest to that")
_TITLE = 42  # characters that a curve's panel has room for
_FEW = 30  # points of a curve, which are marked
_FLAT = 0.02  # of a curve's values; one that spans less is drawn flat
_SHOWN = 0.88  # of the place of an image in a grid; the rest is a gap


def curve_names(rows: Iterable[Mapping[str, float]]) -> list[str]:
    """What rows of metrics.jsonl have curves of: terms of the loss, and the monitors' measures."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in _NO_CURVES))


def curve_title(name: str, measure: Measure | None) -> str:
    """Above a curve; `measure` is what a monitor's number is, None for a term of the loss."""
    if measure is None:
        return _TITLES.get(name, name.replace("_", " "))
    return ", ".join(filter(None, (measure.heading or name.replace("_", " "), measure.unit)))


def training_curves(rows: Sequence[Mapping[str, float]], measures: Mapping[str, Measure]) -> list[Figure]:
    """Each term of the loss, each measure of the monitors, and the learning rate over the steps; a panel each.

    Args:
      rows: of metrics.jsonl, each with `step`.
      measures: what the monitors' numbers are.
    """
    names = curve_names(rows)
    if any("learning_rate" in row for row in rows):
        names.append("learning_rate")
    figures = []
    for name in names:
        figure, axis = plots.panel(4.2, 2.9)
        points = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(
            *zip(*points, strict=True), color=plots.BLUE, marker="o" if len(points) < _FEW else None, markersize=3
        )
        title = curve_title(name, measures.get(name))
        axis.set_title(textwrap.fill(title, _TITLE))
        axis.set_xlabel("step")
        axis.set_ylabel("%" if title.endswith(", %") else _AXES.get(name, "value"))
        axis.ticklabel_format(axis="y", useOffset=False)
        values = np.array([math.nan if value is None else value for _, value in points])
        values = values[np.isfinite(values)]
        least = _FLAT * float(np.abs(values).max(initial=0.0))
        if len(values) and np.ptp(values) < least:  # what hardly changes should look so
            axis.set_ylim(values.mean() - least, values.mean() + least)
        if name == "learning_rate":
            axis.set_ylim(bottom=0)
        figures.append(figure)
    return figures


def augmentation_grid(plan: ViewPlan, images: np.ndarray, columns: int = 8) -> Figure:
    """What a step sees: invariance views differ from image to image, the equivariance views of a group do not.

    The boxes that were cut out are drawn on the images of the first line, each view's in its colour.

    Args:
      plan: the views of a step.
      images: [n, h, w, 3] uint8; the first `columns` are drawn as one group.
      columns: images.
    """
    images = images[:columns]
    columns = len(images)
    lines: list[Sequence[np.ndarray]] = [list(images)]
    boxes = []
    for spec, uniforms in _drawn(plan, columns):
        views, box = jax.device_get(_augmented(uniforms, images, spec=image_spec(spec)))
        lines.append(list(np.clip(views * np.asarray(spec.std) + np.asarray(spec.mean), 0.0, 1.0)))
        boxes.append(box)
    figure, axis = _named_lines("image", lines)
    for (_, _, colour), (top, left, height, width) in zip(_VIEWS, boxes, strict=True):
        for i in range(columns):
            if height[i] < 1 or width[i] < 1:
                corner = i + left[i] * _SHOWN, top[i] * _SHOWN
                axis.add_patch(
                    Rectangle(
                        corner, width[i] * _SHOWN, height[i] * _SHOWN, fill=False, edgecolor=colour, linewidth=1.3
                    )
                )
    return figure


def cloud_grid(plan: ViewPlan, clouds: np.ndarray, columns: int = 8) -> Figure:
    """The same of clouds of points, all drawn to one scale.

    Args:
      plan: the views of a step.
      clouds: [n, L, 4]; the first `columns` are drawn as one group.
      columns: clouds.
    """
    clouds = clouds[:columns]
    seen = [clouds] + [np.asarray(_view(rows, clouds, spec=spec)) for spec, rows in _drawn(plan, len(clouds))]
    drawn = thumbnails(np.concatenate(seen))
    return _named_lines("cloud", [list(line) for line in np.split(drawn, len(seen))])[0]


def _drawn(plan: ViewPlan, columns: int) -> list[tuple[Any, np.ndarray]]:
    """Of each of the views that are shown the ranges, and the uniforms of as many inputs, one group."""
    uniforms = jax.jit(plan._replace(batch_size=columns, equivariance_batch_size=columns, num_groups=1).uniforms)(0)
    of_branches = jax.device_get(uniforms)._asdict()
    return [(getattr(plan, branch), of_branches[branch][which]) for branch, which, _ in _VIEWS]


def _named_lines(what: str, lines: Sequence[Sequence[np.ndarray]]) -> tuple[Figure, Axes]:
    """The inputs, and below them their views, a line each."""
    figure, axis = _mosaic(lines, left=1.5)
    names = [what, *(f"{branch}, {('first', 'second')[which]}" for branch, which, _ in _VIEWS)]
    for line, (name, colour) in enumerate(zip(names, ["black", *(colour for _, _, colour in _VIEWS)], strict=True)):
        axis.text(-0.15, line + 0.5, textwrap.fill(name, 13), ha="right", va="center", color=colour, fontsize=9)
    return figure, axis


def neighbour_grid(found: Retrieval, bank: np.ndarray, words: Sequence[str] = _WORDS) -> Figure | None:
    """Each query with its neighbours, before and after it changes; None where a single image has none.

    Args:
      found: rows of the bank.
      bank: [n, h, w, 3] uint8.
      words: above the query, its neighbours, the changed query, and the neighbours of that.
    """
    count, k = found.before.shape
    if not k:
        return None
    lines = [
        [found.queries[i], *bank[found.before[i]], None, found.changed[i], *bank[found.after[i]]] for i in range(count)
    ]
    figure, axis = _mosaic(lines, top=0.35)
    for at, text, colour in zip(
        (0.5, 1.0 + k / 2, k + 2.5, k + 3.0 + k / 2), words, 2 * (plots.ORANGE, "black"), strict=True
    ):
        axis.text(at, -0.1, text, ha="center", va="bottom", color=colour, fontsize=9)
    return figure


@jax.jit(static_argnames="spec")
def _augmented(
    uniforms: jax.Array, images: jax.Array, spec: AugmentSpec
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array, jax.Array]]:
    height, width = images.shape[1:3]
    drawn = augment.sample(uniforms, spec, height=height, width=width)
    return augment.apply(drawn, images, spec), box_fractions(drawn, height=height, width=width)


@partial(jax.jit, static_argnames="spec")
def _view(uniforms: jax.Array, clouds: jax.Array, spec: CloudSpec) -> jax.Array:
    return augmented(uniforms, clouds, spec)[1]


def _mosaic(
    lines: Sequence[Sequence[np.ndarray | None]], *, left: float = 0.0, top: float = 0.0
) -> tuple[Figure, Axes]:
    """Images in lines, image i of line j from (i, j) to (i + 1, j + 1) less a gap; where there is None, nothing.

    Args:
      lines: of images [h, w, 3], uint8 or float in [0, 1], of whatever sizes.
      left: room for words before the lines, in sides of an image.
      top: the same above them.
    """
    columns, rows = max(map(len, lines)), len(lines)
    figure, axis = plots.panel(0.78 * (columns + left), 0.78 * (rows + top))
    figure.set_layout_engine("none")
    axis.set_position((0.0, 0.0, 1.0, 1.0))
    for y, line in enumerate(lines):
        for x, image in enumerate(line):
            if image is not None:
                axis.imshow(image, extent=(x, x + _SHOWN, y + _SHOWN, y))
    axis.set(xlim=(-left, columns), ylim=(rows, -top), aspect="equal")
    axis.set_axis_off()
    return figure, axis
