"""TIFF files by Pillow, within bounds; their metadata is taken out before (`care_jax.data.metadata`)."""

import math
from typing import Any

from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, STRIPOFFSETS, TILEOFFSETS

from care_jax.data.pixel_budget import MAX_PIXELS

_ORIENTATION = 274
_TILE_SIZE = (322, 323)
# Pillow makes an object of each part of an uncompressed file: 50 MB of them.
_MAX_PARTS = 2**17


class TiffImage(TiffImagePlugin.TiffImageFile):
    """The first page as it lies in the file, not turned.

    Attributes:
      part_pixels: of the tile or strip that is decoded at once, which may be larger than the image.
    """

    part_pixels = 0

    def _setup(self) -> None:
        del self.tag_v2[_ORIENTATION]  # which Pillow reads where others don't, in what is no directory
        tile = [self._integer(tag) for tag in _TILE_SIZE]
        self.part_pixels = math.prod(tile)
        if self.part_pixels > MAX_PIXELS:
            raise Image.DecompressionBombError
        for tag in (STRIPOFFSETS, TILEOFFSETS):
            if len(self.tag_v2.get(tag, ())) > _MAX_PARTS and self._integer(TiffImagePlugin.COMPRESSION, 1) == 1:
                raise ValueError("too many parts")
        super()._setup()
        if self.mode.startswith("I;16"):
            white = 2 ** min(self.tag_v2.get(BITSPERSAMPLE, (16,))[0], 16) - 1  # Pillow does not scale 12 bits
            is_inverted = self._integer(PHOTOMETRIC_INTERPRETATION) == 0  # nor turn these over
            self.info["black and white"] = (white, 0) if is_inverted else (0, white)

    def load_end(self) -> None:
        """Nothing: Pillow turns the image here, by what may be left of its metadata."""

    def _integer(self, tag: int, default: int = 0) -> int:
        value: Any = self.tag_v2.get(tag, default)
        return value if isinstance(value, int) else default
