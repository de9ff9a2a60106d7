"""Decoded images of every mode as 8-bit RGB: over white where they are transparent, upright."""

import re

import numpy as np
from PIL import Image

_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
# Integers of 32 bits or with a sign, and floating point: where black and white lie is for whoever wrote them to know.
MODES_OF_UNKNOWN_RANGE = ("I", "F")
# Orientation in Exif -> what makes the image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ROTATED_BY_A_QUARTER = (5, 6, 7, 8)
# How Pillow calls a layout of 16 bits a channel in a file; its "BGR;16" has 16 bits a pixel.
_DEEP = re.compile(r"(?:I|LA|RGB\w*);16")


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of a decoded image: transparent pixels over white, 16-bit gray scaled to 8 bits."""
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and transparent is None:
        return image
    if image.mode.startswith("I;16"):
        return _sixteen_bits(image, transparent)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in _WITH_ALPHA or transparent is not None:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def over_white(image: Image.Image, low: Image.Image, transparent: tuple[int, int, int]) -> Image.Image:
    """RGB of which one colour is transparent, by all its 16 bits a channel: `image` has the high, `low` the low."""
    pixels = np.array(image)
    is_white = (pixels == [level >> 8 for level in transparent]).all(-1)
    is_white &= (np.asarray(low) == [level & 255 for level in transparent]).all(-1)
    pixels[is_white] = 255
    return Image.fromarray(pixels)


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image, its pixels not yet decoded, has 16 bits a channel."""
    tiles = getattr(image, "tile", [])
    layout = tiles[0][3] if tiles else ""
    return bool(_DEEP.match(layout if isinstance(layout, str) else str(next(iter(layout or ()), ""))))


def highest_level(image: Image.Image) -> int:
    """Of all channels but alpha of a decoded image that `is_deep`, in [0, 65535], the distance from its black.

    Of colours, of which Pillow keeps the high bytes, what it is at most.
    """
    if image.mode.startswith("I"):
        black, white = image.info.get("black and white", (0, 65535))
        levels = np.asarray(image)
        return int(black - levels.min() if white < black else levels.max())
    channels = [image.getchannel(name) for name in image.getbands() if name.upper() != "A"]
    return 256 * max(int(np.asarray(channel).max()) for channel in channels) + 255


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turned as Exif says: 1 to 8."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _sixteen_bits(image: Image.Image, transparent: int | None) -> Image.Image:
    black, white = image.info.get("black and white", (0, 65535))
    levels = (np.arange(65536) - black) * (255 / (white - black))
    table = np.clip(np.round(levels), 0, 255).astype(int)
    if transparent is not None:
        table[transparent] = 255
    return image.convert("I").point(table.tolist(), "L").convert("RGB")
