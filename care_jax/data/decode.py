"""Encoded bytes -> RGB pixels; every way in which a file can be unusable becomes one exception.

One decoder for all: what loads a folder into memory and what feeds it batch by batch agree on orientation, colour and
on which files are broken. It is Pillow and, for the JPEG files most often met, simplejpeg where that is installed. Both
let go of the interpreter while they work, so threads do help, and one decode serves all that is made of an image.
`tf.io.decode_jpeg` and `tf.io.decode_and_crop_jpeg` (for boxes as large as a crop's) take no less than Pillow.
"""

import contextlib
import functools
import io
import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from PIL import Image, ImageOps

# Pillow's own threshold for a decompression bomb: a quarter of a GiB of RGB, about 9,459 x 9,459.
MAX_PIXELS = 2**30 // 4 // 3

# Not every format Pillow knows (some start other programs), but those that pass as .png or .jpg in the wild.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# Of files that are taken for images, in any case.
EXTENSIONS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_ORIENTATION = 0x0112
_ROTATED_BY_A_QUARTER = (5, 6, 7, 8)
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")

Box = tuple[int, int, int, int]  # top, left, height, width in pixels of the upright image


class UnreadableImageError(Exception):
    """A file that holds no usable image. The message says why, in a few words that many files can share."""


class SourceImage:
    """An image that is known by its size; what is encoded of it is decoded when pixels are asked for.

    Attributes:
      height: h of the upright image, pixels.
      width: w.
    """

    def __init__(self, image: Image.Image, orientation: int = 1, jpeg: bytes | None = None):
        self._image = image
        self._jpeg = jpeg  # what simplejpeg may decode
        self._pixels: np.ndarray | None = None  # as it decoded them, uint8 [h, w, 3]
        self._orientation = orientation
        turned = orientation in _ROTATED_BY_A_QUARTER
        self.width, self.height = image.size[::-1] if turned else image.size

    @classmethod
    def from_bytes(cls, data: bytes) -> "SourceImage":
        """Reads the header of a JPEG or PNG file (WebP, GIF and BMP under such a name are taken too).

        Raises:
          UnreadableImageError: empty, not an image, or larger than `MAX_PIXELS`.
        """
        if not data:
            raise UnreadableImageError("empty file")
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            # Cameras write JPEG; of a PNG, Pillow would decode the pixels to look for an orientation.
            is_jpeg = image.format in ("JPEG", "MPO")
            orientation = image.getexif().get(_ORIENTATION, 1) if is_jpeg else 1
            is_plain = image.format == "JPEG" and image.mode == "RGB" and orientation == 1
            return cls(image, orientation, data if is_plain else None)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # Pillow's parsers raise whatever the bytes lead them to
            raise UnreadableImageError("not an image") from error

    @classmethod
    def from_pixels(cls, pixels: np.ndarray) -> "SourceImage":
        """Wraps uint8 [h, w, 3]."""
        return cls(Image.fromarray(pixels))

    def pixels(self) -> np.ndarray:
        """The whole image, upright: uint8 [h, w, 3]."""
        return np.asarray(self._decoded())

    def crops(self, boxes: Sequence[Box], sizes: Sequence[int], *, reduction: int = 1) -> list[np.ndarray]:
        """Cuts boxes out of one decode and resizes each, bilinear and antialiased.

        Args:
          boxes: (top, left, height, width) inside the image, whole pixels.
          sizes: side of each output, pixels.
          reduction: decode a JPEG at 1 / reduction of its size, in steps of two up to 8; see `reduction_for`.

        Returns:
          uint8 [size, size, 3] a box.

        Raises:
          UnreadableImageError: the pixels are truncated or damaged.
        """
        image = self._decoded(reduction)
        scale_y, scale_x = image.height / self.height, image.width / self.width
        crops = []
        for (top, left, height, width), size in zip(boxes, sizes, strict=True):
            # Cut first: a filter must not see pixels outside the box. On a reduced image the box is rounded outwards
            # and its fractions are left to the resize.
            y0, x0, y1, x1 = top * scale_y, left * scale_x, (top + height) * scale_y, (left + width) * scale_x
            y, x = math.floor(y0), math.floor(x0)
            cut = image.crop((x, y, min(math.ceil(x1), image.width), min(math.ceil(y1), image.height)))
            box = (x0 - x, y0 - y, min(x1 - x, cut.width), min(y1 - y, cut.height))
            crops.append(np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR, box=box)))
        return crops

    def paste(self, canvas: np.ndarray, boxes: Sequence[Box], size: int, *, reduction: int = 1) -> np.ndarray:
        """Leaves the crops to somebody else: puts the image into a canvas, at its top left.

        If it is too large, the part of it that the crops need; if that is too large as well, or is to be decoded
        smaller, the finished crops, side by side.

        Args:
          canvas: uint8 [C, D, 3], C >= size and D >= the number of boxes times size; elsewhere it keeps
            what it holds.
          boxes: (top, left, height, width) inside the image, whole pixels, of v crops.
          size: side of each crop, pixels.
          reduction: as in `crops`.

        Returns:
          float32 [v, 4], the boxes in the canvas.

        Raises:
          UnreadableImageError: the pixels are truncated or damaged.
        """
        top, left, height, width = 0, 0, self.height, self.width
        is_whole = height <= canvas.shape[0] and width <= canvas.shape[1]
        if not is_whole:
            top, left = (min(box[axis] for box in boxes) for axis in (0, 1))
            height = max(box[0] + box[2] for box in boxes) - top
            width = max(box[1] + box[3] for box in boxes) - left
        if reduction > 1 or height > canvas.shape[0] or width > canvas.shape[1]:
            for i, crop in enumerate(self.crops(boxes, [size] * len(boxes), reduction=reduction)):
                canvas[:size, i * size : (i + 1) * size] = crop
            return np.asarray([(0, i * size, size, size) for i in range(len(boxes))], np.float32)
        canvas[:height, :width] = self._part((top, left, height, width))
        return np.asarray(boxes, np.float32) - np.asarray([top, left, 0, 0], np.float32)

    def _part(self, box: Box) -> np.ndarray:
        """The pixels of a box: uint8 [height, width, 3]."""
        top, left, height, width = box
        pixels = self._by_simplejpeg()
        if pixels is not None:
            return pixels[top : top + height, left : left + width]
        image = self._decoded()
        if image.size != (width, height):
            image = image.crop((left, top, left + width, top + height))
        # Not np.asarray: it copies once more.
        return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, 3)

    def _by_simplejpeg(self) -> np.ndarray | None:
        """All pixels, where that can decode them: the same as Pillow's (both are libjpeg-turbo), in 3/4 of the time."""
        library = _simplejpeg()
        if self._jpeg is not None and library is not None:
            # Damaged in its eyes: Pillow says how, or reads it all the same.
            with contextlib.suppress(ValueError):
                self._pixels = library.decode_jpeg(self._jpeg)
            self._jpeg = None
        return self._pixels

    def _decoded(self, reduction: int = 1) -> Image.Image:
        image = self._image
        pixels = self._by_simplejpeg() if reduction == 1 else None
        if pixels is not None:
            return Image.fromarray(pixels)
        try:
            if reduction > 1:
                # Pillow picks the largest step that keeps both sides at least this long.
                image.draft("RGB", (image.width // reduction, image.height // reduction))
            image.load()
            return _to_rgb(image if self._orientation == 1 else ImageOps.exif_transpose(image))
        except Exception as error:
            raise UnreadableImageError("truncated or damaged") from error


@functools.cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:  # it is optional
        return None
    return simplejpeg


def reduction_for(boxes: Sequence[Box], sizes: Sequence[int]) -> int:
    """How much smaller an image may be decoded: twice the wanted pixels stay, so that the resize does the filtering.

    A photograph of many megapixels then costs a fraction of the time and memory. The pixels change a little, so whoever
    cuts some boxes out of an image here and others elsewhere must reduce it for all of them alike.
    """
    spare = (min(height, width) // (2 * size) for (_, _, height, width), size in zip(boxes, sizes, strict=True))
    return max(1, min(spare, default=1))


def canvas_side(size: int) -> int:
    """Of the square that crops of this size are left to the device in: 512 for 224, ImageNet's usual 500 pixels fit."""
    return math.ceil(size * 16 / 7)


def central_square(height: int, width: int) -> Box:
    """The largest central square of an image, as a box."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode: transparent pixels over white, 16-bit gray scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float32) / 257.0
        return Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
