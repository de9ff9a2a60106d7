"""Pictures of embeddings: in the plane, along an orbit, and what rotations make of an augmentation."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from care_jax.errors import printable
from care_jax.evaluate import plots

MAX_POINTS = 2000  # more hide each other
_MAX_CLASSES = 20  # that have a mark of their own
_MANY_STEPS = 50  # of an orbit, whose marks would touch
_MAX_CONFUSED = 30  # classes whose matrix can be read


class Draws(NamedTuple):
    """Of m drawn augmentations applied to all test images, or clouds.

    Attributes:
      displacement: [m] |F - Fa| / sqrt(n).
      held_out: [m] share of the motion that a rotation explains, fitted and judged on separate ones.
      same_images: [m] the same, fitted and judged on all of them.
      grayscale: [m] whether the draw took the colours away; of clouds never.
      angles: [m, p] of each draw's fitted rotation in radians, the largest first.
      energies: [m, p] share of the embeddings' squared length in the plane of each angle.
    """

    displacement: np.ndarray
    held_out: np.ndarray
    same_images: np.ndarray
    grayscale: np.ndarray
    angles: np.ndarray
    energies: np.ndarray


class Orbit(NamedTuple):
    """Embeddings of q inputs along a full turn of t steps, in the plane that the turn's rotation moves most.

    Attributes:
      coordinates: [q, t, 2].
      angle: by which the plane turns, radians.
      energy: share of the embeddings' squared length in it.
      turn: of the change that the rotation was fitted to, as a share of the full circle.
    """

    coordinates: np.ndarray
    angle: float
    energy: float
    turn: float


def shares_explained(draws: Draws, noun: str = "images") -> Figure | None:
    """How much of each draw's motion a rotation explains, over how far it moved the embeddings; None of no number.

    Args:
      draws: what is shown.
      noun: what they were applied to.
    """
    shown = np.isfinite(draws.displacement) & np.isfinite(draws.held_out)
    if not shown.any():
        return None
    figure, axis = plots.panel(5.0, 3.9)
    axis.axhline(0.0, color=plots.GRAY, linestyle="--", linewidth=1.2)
    axis.axhline(100.0, color=plots.GRAY, linestyle=":", linewidth=1.2)
    # On the sides of the lines where no points are: none is above 100 %.
    for height, text, offset, side in (
        (0.0, "a rotation explains nothing", -3, "top"),
        (100.0, "one rotation explains everything", 3, "bottom"),
    ):
        where: Any = {"xytext": (-2, offset), "textcoords": "offset points", "ha": "right", "va": side}
        axis.annotate(text, (1.0, height), xycoords=axis.get_yaxis_transform(), color=plots.GRAY, fontsize=8.5, **where)
    moved = draws.displacement
    axis.plot(moved, 100 * draws.same_images, "+", color=plots.GRAY, label=f"fitted and judged on the same {noun}")
    for gray, colour, marker, label in (
        (False, plots.BLUE, "o", f"judged on other {noun} than fitted to"),
        (True, plots.ORANGE, "s", "the same, draw with grayscale"),
    ):
        chosen = draws.grayscale == gray
        if chosen.any():
            axis.plot(moved[chosen], 100 * draws.held_out[chosen], marker, color=colour, label=label)
    lowest = float(np.nanmin(draws.held_out))
    # What no rotation fits can be far below 0; the line at 0 is to stay in sight.
    axis.set_ylim(100 * max(min(-0.15, 1.1 * lowest), -1.0), 110)
    axis.set_xlim(0.0, 1.08 * float(np.nanmax(moved)) or 1.0)
    axis.set_xlabel("displacement  |F - Fa| / sqrt(n)")
    axis.set_ylabel("motion explained, %")
    axis.set_title(f"{np.sum(shown)} drawn augmentations, all test {noun} each")
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure


def spectrum(draws: Draws) -> list[Figure]:
    """The angles of the fitted rotations, in order, and how much of the embeddings each turns; empty of no number."""
    finite = np.isfinite(draws.angles).all(axis=1)
    if not finite.any() or not draws.angles.shape[1]:
        return []
    angles, energies = np.degrees(draws.angles[finite]), draws.energies[finite]
    ordered, axis = plots.panel()
    places = np.arange(1, angles.shape[1] + 1)
    for i, row in enumerate(angles):
        axis.plot(
            places, row, color=plots.BLUE, linewidth=0.7, alpha=0.45, label="a drawn augmentation" if not i else None
        )
    axis.plot(places, np.median(angles, axis=0), color=plots.ORANGE, linewidth=2.2, label="median of the draws")
    axis.set(xlabel="plane of the rotation, largest angle first", ylabel="angle, degrees", ylim=(0, 185))
    axis.set_title("angles of the fitted rotations")
    axis.legend(frameon=False)
    weighted, axis = plots.panel()
    edges = np.linspace(0, 180, 19)
    heights = np.mean([np.histogram(a, edges, weights=e)[0] for a, e in zip(angles, energies, strict=True)], axis=0)
    axis.bar(edges[:-1], 100 * heights, width=9.2, align="edge", color=plots.BLUE)
    axis.set(xlabel="angle, degrees", ylabel="squared length in such planes, %", xlim=(0, 180))
    axis.set_title("how much of the embeddings is turned so far")
    return [ordered, weighted]


def plane(
    coordinates: np.ndarray,
    shares: Sequence[float] | None,
    labels: np.ndarray,
    labelling: str,
    names: Sequence[str],
    colours: Sequence[Any] = plots.PALETTE,
) -> Figure:
    """Points in a plane, by their label.

    Args:
      coordinates: [n, 2].
      shares: of the variance, along the two axes of the principal plane; None for UMAP's, whose axes mean nothing.
      labels: [n] in [0, c).
      labelling: "hue" is coloured as what it is; others by c marks.
      names: of the c labels; of more than 20 the most frequent are marked, the others gray.
      colours: of the labels in turn.
    """
    figure, axis = plots.panel(4.6, 4.4)
    step = -(-len(coordinates) // MAX_POINTS)
    coordinates, labels = coordinates[::step], labels[::step]
    counts = np.bincount(labels, minlength=len(names))
    present = np.flatnonzero(counts)
    own = np.sort(present[np.argsort(-counts[present], kind="stable")[:_MAX_CLASSES]])
    others = ~np.isin(labels, own)
    if others.any():
        axis.scatter(
            coordinates[others, 0],
            coordinates[others, 1],
            s=8,
            color="#c3c7cd",
            linewidths=0,
            label=f"{len(present) - len(own)} others",
        )
    for place, label in enumerate(own):
        colour: Any = colours[place % len(colours)]
        marker = plots.MARKERS[(place // 7 + place) % 7]
        if labelling == "hue":
            colour = hsv_to_rgb(((label + 0.5) / len(names), 0.85, 0.8))
        points = coordinates[labels == label]
        axis.scatter(
            points[:, 0],
            points[:, 1],
            s=16,
            color=[colour],
            marker=marker,
            linewidths=0,
            alpha=0.85,
            label=plots.words(names[label], 16),
        )
    if shares is None:
        axis.set(xticks=(), yticks=(), title=f"by {labelling}, UMAP")
    else:
        axis.set_xlabel(f"first component, {100 * shares[0]:.0f} % of the variance")
        axis.set_ylabel(f"second component, {100 * shares[1]:.0f} %")
        axis.set_title(f"by {labelling}")
    figure.legend(loc="outside lower center", ncols=5, frameon=False, handletextpad=0.1, columnspacing=0.9)
    return figure


def orbit(found: Orbit, what: str, names: Sequence[str]) -> Figure:
    """Each input's way through the plane over a full turn, which for a rotation is a circle.

    Args:
      found: the ways.
      what: is turned, above the picture.
      names: of the q inputs.
    """
    figure, axis = plots.panel(4.6, 4.5)
    _ways(axis, found, what, names, _reach([found]))
    axis.set_xlabel(_plane_in_words(found))
    figure.legend(loc="outside lower center", ncols=4, frameon=False, handletextpad=0.3, columnspacing=0.9)
    return figure


def orbits(found: Sequence[Orbit], whats: Sequence[str], names: Sequence[str]) -> Figure:
    """The same of several turns of the same inputs, a panel each, to one scale.

    Args:
      found: the ways.
      whats: is turned in each, above it.
      names: of the q inputs.
    """
    figure, ((*axes,),) = plots.panels(1, len(found), width=3.45, height=4.1)
    for axis, one, what in zip(axes, found, whats, strict=True):
        _ways(axis, one, what, names, _reach(found))
        axis.set_xlabel(textwrap.fill(_plane_in_words(one), 40), fontsize=8.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, handletextpad=0.3, columnspacing=0.9
    )
    return figure


def orbits_of_rows(rows: Mapping[str, Mapping[str, Orbit]], words: Callable[[Orbit], str]) -> Figure:
    """Ways of the same inputs by several encoders: a line an encoder, a panel a turn, all to one scale.

    Args:
      rows: of each encoder and turn the ways.
      words: what stands above a panel of its ways.
    """
    turns = list(dict.fromkeys(turn for of in rows.values() for turn in of))
    figure, axes = plots.panels(len(rows), max(len(turns), 1), width=2.9, height=3.0)
    reach = _reach([one for of in rows.values() for one in of.values()])
    for line, (row, of) in zip(axes, rows.items(), strict=True):
        for axis, turn in zip(line, turns, strict=True):
            if turn in of:
                names = [str(i) for i in range(len(of[turn].coordinates))]
                _ways(axis, of[turn], f"{row}, about {turn}:\n{words(of[turn])}", names, reach)
                axis.title.set_fontsize(9)
            else:
                axis.remove()
    return figure


def _reach(found: Sequence[Orbit]) -> float:
    return 1.08 * max(float(np.abs(one.coordinates).max()) for one in found) or 1.0


def _ways(axis: Axes, found: Orbit, what: str, names: Sequence[str], reach: float) -> None:
    size = 4 if found.coordinates.shape[1] < _MANY_STEPS else 2
    for i, way in enumerate(found.coordinates):
        closed = np.concatenate([way, way[:1]])
        colour = plots.PALETTE[i % 7]
        axis.plot(*closed.T, color=colour, marker=".", markersize=size, linewidth=1.2, label=plots.words(names[i]))
        axis.plot(*way[0], marker=plots.MARKERS[0], markersize=9, color=colour, markeredgecolor="black")
    axis.plot(0, 0, "+", color=plots.GRAY, markersize=10)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axis.set_title(what)


def _plane_in_words(found: Orbit) -> str:
    return (
        f"plane that a turn by {360 * found.turn:.0f} degrees rotates by {np.degrees(found.angle):.0f};\n"
        f"it holds {100 * found.energy:.0f} % of the embeddings' squared length"
    )


def confusion(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Figure | None:
    """The matrix of kNN's votes, a line a class; None of more classes than can be read.

    Args:
      labels: [n] in [0, c).
      predicted: [n], the same.
      names: of the c classes.
    """
    count = len(names)
    if count > _MAX_CONFUSED:
        return None
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (labels, predicted), 1)
    side = min(max(2.2 + 0.25 * count, 3.8), 8.5)
    figure, axis = plots.panel(side, side)
    axis.grid(False)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axis.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=colour, fontsize=7.5)
    short = [plots.words(name, 14) for name in names]
    axis.set_xticks(range(count), short, rotation=90 if max(map(len, short)) > 3 else 0)
    axis.set_yticks(range(count), short)
    axis.set(xlabel="class by the vote of the neighbours", ylabel="class")
    axis.set_title("test images")
    return figure


def confused(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str], most: int = 5) -> str:
    """The commonest mistakes, in words.

    >>> confused(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 0]), ["cat", "dog"])
    'dog taken for cat (2), cat taken for dog (1)'
    """
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    found: Mapping[tuple[int, int], int] = {(int(a), int(b)): int(n) for (a, b), n in zip(pairs.T, counts, strict=True)}
    ranked = sorted(found.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{printable(names[a])} taken for {printable(names[b])} ({n})" for (a, b), n in ranked)
