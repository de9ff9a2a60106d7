"""One style for all plots of the pages: sizes, fonts, and colours that the colour-blind tell apart."""

import base64
import io
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from care_jax.errors import printable

# Okabe and Ito's (2008); without yellow, which white swallows.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
BLUE, ORANGE, GREEN = PALETTE[:3]
GRAY = "#6b7280"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # which matplotlib brings along
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d5d9de",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "image.interpolation": "nearest",
}
_SAVED: Any = {"svg.fonttype": "path", "svg.hashsalt": "care_jax"}  # the same file of the same numbers
_MANY = 400  # marks, above which a picture of points is smaller than their coordinates


def words(text: str, most: int | None = None) -> str:
    r"""Text of a user's, the name of a folder say, as a picture shows it: no mathematics, and seen in a legend.

    Args:
      text: as it is on the disk.
      most: characters.

    >>> words("$5 to $10"), words("_hidden"), words("caf\udce9", 8)
    ('\\$5 to \\$10', ' _hidden', 'caf\\udce9')
    """
    shown = printable(text)[:most]
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")  # a legend leaves out what begins with _


def panel(width: float = 4.6, height: float = 3.4) -> tuple[Figure, Axes]:
    """An empty picture with one pair of axes; inches, of which a page shows 96 pixels each."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def panels(
    rows: int, columns: int, width: float, height: float, *, share_x: Literal["col", "none"] = "none"
) -> tuple[Figure, list[list[Axes]]]:
    """Pairs of axes, a list a row, with one scale upwards in each row, and for "col" one along each column.

    Sizes are inches of each.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        return figure, figure.subplots(rows, columns, sharex=share_x, sharey="row", squeeze=False).tolist()


def image(figure: Figure) -> tuple[str, str]:
    """A figure for a page that needs no other file, its ground transparent.

    Returns:
      The type "svg+xml", or "png" where it shows pixels or many points; and its bytes in base64.
    """
    marks = sum(np.shape(collection.get_offsets())[0] for axis in figure.axes for collection in axis.collections)
    pixels = any(axis.images for axis in figure.axes) or marks > _MANY
    buffer = io.BytesIO()
    with rc_context(_STYLE | _SAVED):
        if pixels:
            figure.savefig(buffer, format="png", dpi=144, transparent=True)
        else:
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "png" if pixels else "svg+xml", base64.b64encode(buffer.getvalue()).decode("ascii")


def png(figure: Figure) -> bytes:
    """A figure as a file by itself, on white."""
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=96)
    return buffer.getvalue()
