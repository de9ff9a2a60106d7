"""Small pictures of clouds of points, where a report shows images."""

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

_SHARP = 4  # drawn larger by this, and shrunk: smooth edges
_SIDE = 96
_RADIUS = 0.022  # of a point in the middle, of the picture's side
_JOINED = 0.45  # points further apart, in the units of the coordinates, are not joined; 3.8 Å are 0.25


def thumbnails(clouds: np.ndarray, *, side: int = _SIDE, extent: float | None = None) -> np.ndarray:
    """Clouds as seen along the third axis: nearer points larger, coloured by their number, neighbours in it joined.

    Args:
      clouds: [n, L, 4], as `Examples` has them.
      side: of a picture, pixels.
      extent: half the side in the units of the coordinates; None: that all points of all clouds fit.

    Returns:
      [n, side, side, 3] uint8, on white.
    """
    clouds = np.asarray(clouds, np.float64)
    if extent is None:
        extent = 1.08 * max(float(np.abs(clouds[..., :3]).max(initial=0.0)), 1e-9)
    colours = (255 * matplotlib.colormaps["viridis"](np.linspace(0.0, 0.92, clouds.shape[1]))[:, :3]).astype(int)
    return (
        np.stack([_drawn(cloud, colours, side, extent) for cloud in clouds])
        if len(clouds)
        else np.zeros((0, side, side, 3), np.uint8)
    )


def _drawn(cloud: np.ndarray, colours: np.ndarray, side: int, extent: float) -> np.ndarray:
    large = side * _SHARP
    picture = Image.new("RGB", (large, large), "white")
    pen = ImageDraw.Draw(picture)
    (numbers,) = np.nonzero(cloud[:, 3])
    points = cloud[numbers, :3]
    places = large / 2 * (1.0 + points[:, :2] / extent * (1.0, -1.0))
    nearness = 1.0 + 0.5 * points[:, 2] / extent
    joined = np.flatnonzero(np.linalg.norm(np.diff(points, axis=0), axis=1) <= _JOINED).tolist()
    parts = [(points[i : i + 2, 2].mean() - 1e-9, i, True) for i in joined]  # a line lies behind its ends
    parts += [(depth, i, False) for i, depth in enumerate(points[:, 2])]
    for _, i, is_line in sorted(parts):
        colour = tuple(colours[numbers[i]])
        radius = _RADIUS * large * nearness[i]
        x, y = places[i]
        if is_line:
            pen.line([(x, y), tuple(places[i + 1])], fill=colour, width=max(round(0.9 * radius), 1))
        else:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))
