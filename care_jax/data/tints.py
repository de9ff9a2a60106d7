"""Gray images in a drawn hue: a second label for any set of them, one that moves with the colours."""

import numpy as np

HUE = "hue"
HUE_CLASSES = 8
_SATURATION = 0.6
# ITU-R BT.601, the weights by which gray-scale augmentation sums red, green and blue.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_AT_ONCE = 2**24  # numbers of float64 that are held, 128 MiB


def hue_to_rgb(hue: np.ndarray) -> np.ndarray:
    """RGB in [0, 1] of hues in turns [n] -> [n, 3], all of one luminance.

    Saturation is fixed and value is chosen so that the luminance is that of the darkest hue, blue: a gray-scale copy
    of a tinted image then tells nothing of its hue.
    """
    sector = (np.asarray(hue)[..., None] * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0
    pure = np.clip(np.abs(sector - 3.0) - 1.0, 0.0, 1.0)
    tint = 1.0 - _SATURATION * (1.0 - pure)
    darkest = 1.0 - _SATURATION * (1.0 - _LUMINANCE[2])
    return tint * darkest / (tint @ _LUMINANCE)[..., None]


def tinted(images: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Gray images [n, h, w], in [0, 1] or uint8, in the hues [n], in turns -> [n, h, w, 3] uint8."""
    colors = hue_to_rgb(hue)[:, None, None, :]
    found = np.empty((*images.shape, 3), np.uint8)
    step = max(_AT_ONCE // max(found[:1].size, 1), 1)
    for first in range(0, len(images), step):
        rows = slice(first, first + step)
        gray = images[rows] / 255.0 if images.dtype == np.uint8 else images[rows]
        found[rows] = np.round(gray[..., None] * colors[rows] * 255.0)
    return found


def hue_classes(hue: np.ndarray) -> np.ndarray:
    """Which eighth of the circle: floor(8 hue) of hues in [0, 1) turns; red begins 0, green is in 2, blue in 5."""
    return np.floor(hue * HUE_CLASSES).astype(np.int32)
