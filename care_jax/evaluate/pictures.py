"""Pictures of a run and of images: curves of the training, grids of what was drawn and of what was found."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from care_jax import augment
from care_jax.augment import AugmentSpec, ViewPlan
from care_jax.augment.augmentation import box_fractions
from care_jax.evaluate import plots
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.retrieval import Retrieval

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
_FEW = 30  # points of a curve, which are marked
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
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.set_ylabel("%" if title.endswith(", %") else _AXES.get(name, "value"))
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
    uniforms = jax.jit(plan._replace(batch_size=columns, equivariance_batch_size=columns, num_groups=1).uniforms)(0)
    invariance, equivariance = jax.device_get((uniforms.invariance, uniforms.equivariance))
    lines: dict[str, Sequence[np.ndarray | None]] = {"image": list(images)}
    boxes = []
    for name, values, spec, colour in (
        ("invariance, first", invariance[0], plan.invariance, plots.BLUE),
        ("invariance, second", invariance[1], plan.invariance, plots.PALETTE[5]),
        ("equivariance, first", equivariance[0], plan.equivariance, plots.ORANGE),
        ("equivariance, second", equivariance[1], plan.equivariance, plots.PALETTE[4]),
    ):
        views, box = jax.device_get(_augmented(values, images, spec=spec))
        lines[name] = list(np.clip(views * np.asarray(spec.std) + np.asarray(spec.mean), 0.0, 1.0))
        boxes.append((colour, box))
    figure, axis = _mosaic(list(lines.values()), left=1.5)
    for line, (name, colour) in enumerate(zip(lines, ["black", *(colour for colour, _ in boxes)], strict=True)):
        axis.text(-0.15, line + 0.5, textwrap.fill(name, 13), ha="right", va="center", color=colour, fontsize=9)
    for colour, (top, left, height, width) in boxes:
        for i in range(columns):
            if height[i] < 1 or width[i] < 1:
                corner = i + left[i] * _SHOWN, top[i] * _SHOWN
                axis.add_patch(
                    Rectangle(
                        corner, width[i] * _SHOWN, height[i] * _SHOWN, fill=False, edgecolor=colour, linewidth=1.3
                    )
                )
    return figure


def neighbour_grid(found: Retrieval, bank: np.ndarray) -> Figure | None:
    """Each query with its neighbours, before and after its hue changes; None where a single image has none.

    Args:
      found: rows of the bank.
      bank: [n, h, w, 3] uint8.
    """
    count, k = found.before.shape
    if not k:
        return None
    lines = [
        [found.queries[i], *bank[found.before[i]], None, found.changed[i], *bank[found.after[i]]] for i in range(count)
    ]
    figure, axis = _mosaic(lines, top=0.35)
    for at, text, colour in (
        (0.5, "image", plots.ORANGE),
        (1.0 + k / 2, "nearest to it", "black"),
        (k + 2.5, "hue turned", plots.ORANGE),
        (k + 3.0 + k / 2, "nearest to that", "black"),
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
