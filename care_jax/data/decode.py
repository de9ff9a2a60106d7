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
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from care_jax.data import rgb
from care_jax.data.metadata import MAX_SCANS, MAX_SCANS_OF_THE_LARGEST, Encoded, strip
from care_jax.data.pixel_budget import DECODING, MAX_PIXELS
from care_jax.data.tiff import TiffImage

# Not every format Pillow knows (some start other programs), but those that pass as .png or .jpg in the wild. By name,
# not by `Image.open`: that warns of large images, which are refused here, and looks for pictures beside the first.
_FORMATS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"II": TiffImage,
    b"MM": TiffImage,
}
# Of files that are taken for images, in any case.
EXTENSIONS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# These hold memory as soon as they are opened: a decoder's canvases, an object for each part.
_OPENED_AGAIN = ("WEBP", "TIFF")
# Which Pillow decodes one by one, at 0.25 us a pixel.
_MAX_PIXELS_IN_PYTHON = 2**24
_REDUCTIONS = (8, 4, 2, 1)  # of libjpeg, that Pillow asks for

Box = tuple[int, int, int, int]  # top, left, height, width in pixels of the upright image


class UnreadableImageError(Exception):
    """A file that holds no usable image. The message says why, in a few words that many files can share."""


class SourceImage:
    """An image that is known by its size; what is encoded of it is decoded when pixels are asked for.

    Attributes:
      height: h of the upright image, pixels.
      width: w.
      highest_level: of 16 bits a channel, once it was decoded, at most; None of fewer bits.
    """

    def __init__(
        self, size: tuple[int, int], encoded: Encoded | None = None, opened: ImageFile.ImageFile | None = None
    ):
        self.width, self.height = size
        self.highest_level: int | None = None
        self._encoded = encoded
        self._opened = opened  # whose pixels are not yet decoded
        self._pixels: np.ndarray | Image.Image | None = None  # while they are held
        # What decoding it takes at once.
        self._cost = self.width * self.height
        self._reducible = False

    @classmethod
    def from_bytes(cls, data: bytes) -> "SourceImage":
        """Reads the header of a JPEG, PNG, WebP, GIF, BMP or TIFF file, whatever its name; of several images the first.

        Raises:
          UnreadableImageError: empty; no image; too many pixels (`MAX_PIXELS`, of a compressed BMP 2**24), parts, or
            scans (`MAX_SCANS`, of large images fewer); or levels of which nobody knows what is white: floating point,
            32 bits, or with a sign.
        """
        if not data:
            raise UnreadableImageError("empty file")
        try:
            encoded = strip(data)
        except ValueError as error:
            raise UnreadableImageError(str(error)) from None
        try:
            opened = _open(encoded)
        except MemoryError:  # the machine's fault, not the file's
            raise
        except Image.DecompressionBombError:
            raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # Pillow's parsers raise whatever the bytes lead them to
            raise UnreadableImageError("not an image") from error
        pixels = opened.width * opened.height
        if pixels > MAX_PIXELS:
            raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels")
        if encoded.scans > min(MAX_SCANS, MAX_SCANS_OF_THE_LARGEST * MAX_PIXELS // pixels):
            raise UnreadableImageError("too many scans")
        if opened.tile and opened.tile[0][0] == "bmp_rle" and pixels > _MAX_PIXELS_IN_PYTHON:
            raise UnreadableImageError(f"compressed BMP of more than {_MAX_PIXELS_IN_PYTHON:,} pixels")
        if opened.mode in rgb.MODES_OF_UNKNOWN_RANGE:
            raise UnreadableImageError("32-bit, signed or floating-point levels")
        size = opened.size[::-1] if encoded.orientation in rgb.ROTATED_BY_A_QUARTER else opened.size
        image = cls(size, encoded, None if opened.format in _OPENED_AGAIN else opened)
        image._cost = max(pixels, getattr(opened, "part_pixels", 0))
        image._reducible = opened.format == "JPEG" and encoded.scans == 1  # several lie in memory in full
        return image

    @classmethod
    def from_pixels(cls, pixels: np.ndarray) -> "SourceImage":
        """Wraps uint8 [h, w, 3]."""
        image = cls(pixels.shape[1::-1])
        image._pixels = pixels
        return image

    @contextlib.contextmanager
    def held(self, reduction: int = 1) -> Iterator[np.ndarray | Image.Image]:
        """Keeps the pixels, so that all that is made of them inside takes one decode; they are forgotten at the end.

        Waits until there is room for them beside what other threads have decoded (`pixel_budget.DECODING`). A thread
        holds one image at a time: with two it may wait for itself.

        Args:
          reduction: as in `crops`; the same for all inside.

        Returns:
          The upright image, uint8 [h, w, 3] or RGB, for this class's own use.

        Raises:
          UnreadableImageError: the pixels are truncated or damaged.
        """
        if self._pixels is not None:
            yield self._pixels
            return
        step = next(step for step in _REDUCTIONS if step <= reduction) if self._reducible else 1
        with DECODING.taken(math.ceil(self._cost / step**2)):
            self._pixels = self._decoded(reduction)
            try:
                yield self._pixels
            finally:
                self._pixels = None

    def pixels(self) -> np.ndarray:
        """The whole image, upright: uint8 [h, w, 3]."""
        with self.held() as pixels:
            return np.asarray(pixels)

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
        with self.held(reduction) as pixels:
            image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
            return self._cut(image, boxes, sizes)

    def _cut(self, image: Image.Image, boxes: Sequence[Box], sizes: Sequence[int]) -> list[np.ndarray]:
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
        with self.held() as pixels:
            if isinstance(pixels, np.ndarray):
                return pixels[top : top + height, left : left + width]
            if pixels.size != (width, height):
                pixels = pixels.crop((left, top, left + width, top + height))
            # Not np.asarray: it copies once more.
            return np.frombuffer(pixels.tobytes(), np.uint8).reshape(height, width, 3)

    def _decoded(self, reduction: int) -> np.ndarray | Image.Image:
        assert self._encoded is not None
        opened, self._opened = self._opened, None
        orientation = self._encoded.orientation
        try:
            image = opened or _open(self._encoded)
            if reduction == 1 and orientation == 1 and image.format == "JPEG" and image.mode == "RGB":
                pixels = _by_simplejpeg(self._encoded.data)
                if pixels is not None:
                    return pixels
            is_deep = rgb.is_deep(image)
            loaded = _load(image, self._encoded, reduction)
            self.highest_level = rgb.highest_level(image) if is_deep else None
            return rgb.upright(loaded, orientation)
        except MemoryError:
            raise
        except Exception as error:
            raise UnreadableImageError("truncated or damaged") from error


def _open(encoded: Encoded) -> ImageFile.ImageFile:
    kind = next(kind for start, kind in _FORMATS.items() if encoded.data.startswith(start))
    return kind(io.BytesIO(encoded.data))


def _load(image: ImageFile.ImageFile, encoded: Encoded, reduction: int) -> Image.Image:
    """RGB, as it lies in the file."""
    if reduction > 1:
        # Pillow picks the largest step that keeps both sides at least this long.
        image.draft("RGB", (image.width // reduction, image.height // reduction))
    tiles = image.tile
    image.load()
    transparent = image.info.get("transparency")
    if transparent is not None and tiles and tiles[0][3] == "RGB;16B":  # of a PNG; the transparent colour has 16 bits
        low = _open(encoded)
        low.tile = [tiles[0]._replace(args="RGB;16L")]  # the other byte of each channel for the high one
        low.load()
        return rgb.over_white(image, low, transparent)
    return rgb.to_rgb(image)


def _by_simplejpeg(jpeg: bytes) -> np.ndarray | None:
    """All pixels, where that can decode them: the same as Pillow's (both are libjpeg-turbo), in 3/4 of the time."""
    library = _simplejpeg()
    # Damaged in its eyes: Pillow says how, or reads it all the same.
    with contextlib.suppress(ValueError):
        return library.decode_jpeg(jpeg) if library is not None else None
    return None


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
