"""The pictures of the report, each a matplotlib figure made from arrays."""

from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from matplotlib.figure import Figure

from care_jax import augment
from care_jax.augment import AugmentSpec, ViewPlan
from care_jax.evaluate.equivariance_error import Equivariance
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.retrieval import Retrieval

_TITLES = {
    "loss": "loss, total",
    "info_nce": "InfoNCE",
    "equivariance": "equivariance loss",
    "online_probe_top1": "online probe (training views), %",
}
_NO_CURVES = ("step", "images_per_second", "data_wait_share", "learning_rate")
_BLUE, _ORANGE, _GRAY = "#2563a8", "#d97706", "#8a8f98"


def curve_names(rows: Iterable[Mapping[str, float]]) -> list[str]:
    """What rows of metrics.jsonl have curves of: terms of the loss, and the monitors' measures."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in _NO_CURVES))


def curve_title(name: str, measure: Measure | None) -> str:
    """Above a curve; `measure` is what a monitor's number is, None for a term of the loss."""
    if measure is None:
        return _TITLES.get(name, name.replace("_", " "))
    return ", ".join(filter(None, (measure.heading or name.replace("_", " "), measure.unit)))


def loss_curves(rows: Sequence[Mapping[str, float]], measures: Mapping[str, Measure]) -> Figure:
    """Each term of the loss, and each measure of the monitors, over the steps.

    Args:
      rows: of metrics.jsonl, each with `step`.
      measures: what the monitors' numbers are.
    """
    names = curve_names(rows)
    columns = min(max(len(names), 1), 3)
    lines = -(-max(len(names), 1) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.7 * lines), layout="constrained")
    for axis, name in zip(np.atleast_1d(figure.subplots(lines, columns)).flat, names, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(*zip(*points, strict=True), color=_BLUE, marker="o" if len(points) < 30 else None, markersize=3)
        axis.set_title(curve_title(name, measures.get(name)))
        axis.set_xlabel("step")
        axis.grid(alpha=0.25)
    for axis in figure.axes[len(names) :]:
        axis.set_axis_off()
    return figure


def augmentation_grid(plan: ViewPlan, images: np.ndarray, columns: int = 8) -> Figure:
    """What a step sees: invariance views differ from image to image, the equivariance views of a group do not.

    Args:
      plan: the views of a step.
      images: [n, h, w, 3] uint8; the first `columns` are drawn as one group.
      columns: images.
    """
    images = images[:columns]
    columns = len(images)
    uniforms = jax.jit(plan._replace(batch_size=columns, equivariance_batch_size=columns, num_groups=1).uniforms)(0)
    invariance, equivariance = jax.device_get((uniforms.invariance, uniforms.equivariance))
    rows = {"image": images.astype(np.float32) / np.float32(255.0)}
    for name, values, spec in (
        ("invariance view 1", invariance[0], plan.invariance),
        ("invariance view 2", invariance[1], plan.invariance),
        ("equivariance view a", equivariance[0], plan.equivariance),
        ("equivariance view a'", equivariance[1], plan.equivariance),
    ):
        views = jax.jit(_augmented, static_argnames="spec")(values, images, spec=spec)
        rows[name] = np.clip(np.asarray(views) * np.asarray(spec.std) + np.asarray(spec.mean), 0.0, 1.0)
    return _image_rows(rows)


def wahba_scatter(measured: Equivariance) -> Figure | None:
    """Per drawn augmentation: how far it moved the embeddings, and how much of that no rotation explains.

    None where no error is a finite number.
    """
    shown = np.isfinite(measured.displacement) & np.isfinite(measured.wahba)
    if not shown.any():
        return None
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axis = figure.subplots()
    top = float(max(measured.displacement[shown].max(), measured.wahba[shown].max())) * 1.08
    top = top or 1.0  # constant embeddings are all at 0
    axis.plot([0, top], [0, top], color=_GRAY, linestyle="--", linewidth=1, label="a rotation explains nothing")
    axis.scatter(measured.displacement, measured.wahba, color=_BLUE, label="best rotation, SO(d)", zorder=3)
    axis.scatter(
        measured.displacement,
        measured.wahba_orthogonal,
        facecolors="none",
        edgecolors=_ORANGE,
        s=70,
        label="best orthogonal matrix, O(d)",
        zorder=2,
    )
    axis.set(xlim=(0, top), ylim=(0, top))
    axis.set_xlabel("displacement  |F - Fa| / sqrt(n)")
    axis.set_ylabel("Wahba error  min |F R' - Fa| / sqrt(n)")
    axis.set_title(f"{len(measured.wahba)} drawn augmentations, {measured.num_examples} held-out images")
    axis.legend(frameon=False, loc="upper left")
    axis.grid(alpha=0.25)
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
    figure = Figure(figsize=(0.8 * (2 * k + 3), 0.85 * count + 0.3), layout="constrained")
    axes = figure.subplots(count, 2 * k + 3, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for line in range(count):
        cells = [found.queries[line], *bank[found.before[line]], None, found.changed[line], *bank[found.after[line]]]
        for axis, cell in zip(axes[line], cells, strict=True):
            if cell is not None:
                axis.imshow(cell)
    axes[0, 0].set_title("image", fontsize=9, color=_ORANGE)
    axes[0, 1 + k // 2].set_title("nearest to it", fontsize=9)
    axes[0, k + 2].set_title("hue turned", fontsize=9, color=_ORANGE)
    axes[0, k + 3 + k // 2].set_title("nearest to that", fontsize=9)
    return figure


def _augmented(uniforms: jax.Array, images: jax.Array, spec: AugmentSpec) -> jax.Array:
    drawn = augment.sample(uniforms, spec, height=images.shape[1], width=images.shape[2])
    return augment.apply(drawn, images, spec)


def _image_rows(rows: Mapping[str, np.ndarray]) -> Figure:
    columns = max(len(images) for images in rows.values())
    figure = Figure(figsize=(1.0 * columns + 1.8, 1.05 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in enumerate(rows.items()):
        for axis, image in zip(axes[line], images, strict=False):
            axis.imshow(np.asarray(jax.device_get(image)))
            axis.set(xticks=[], yticks=[])
        axes[line, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    for axis in axes.flat:
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure
