"""Every kind of file that turns up in a folder of images."""

import struct
import zlib

import numpy as np
import pytest
from image_bytes import encode, smooth
from PIL import Image, ImageOps

from care_jax.data import decode
from care_jax.data.decode import (
    MAX_PIXELS,
    SourceImage,
    UnreadableImageError,
    canvas_side,
    central_square,
    reduction_for,
)

RNG = np.random.default_rng(0)


def pixels(data: bytes) -> np.ndarray:
    return SourceImage.from_bytes(data).pixels()


def test_png_is_exact():
    image = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    source = SourceImage.from_bytes(encode(Image.fromarray(image)))
    assert (source.height, source.width) == (5, 7)
    np.testing.assert_array_equal(source.pixels(), image)


def test_gray_and_palette():
    gray = RNG.integers(0, 256, (4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(gray))), np.repeat(gray[..., None], 3, -1))
    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert pixels(encode(palette)).tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]
    np.testing.assert_array_equal(pixels(encode(Image.new("1", (2, 2), 1))), np.full((2, 2, 3), 255))


def test_transparent_is_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [[200, 100, 0, 255], [200, 100, 0, 0], [0, 0, 0, 51]]
    assert pixels(encode(Image.fromarray(rgba))).tolist() == [[[200, 100, 0], [255, 255, 255], [204, 204, 204]]]
    gray_alpha = Image.fromarray(np.array([[[80, 255], [80, 0]]], np.uint8), "LA")
    assert pixels(encode(gray_alpha)).tolist() == [[[80] * 3, [255] * 3]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert pixels(encode(palette, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_sixteen_bits_are_scaled():
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    assert pixels(encode(Image.fromarray(deep))).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_modes(mode):
    image = smooth(40, 48).convert(mode)
    decoded = pixels(encode(image, "JPEG", quality=95))
    assert decoded.shape == (40, 48, 3)
    assert np.abs(decoded - np.asarray(image.convert("RGB")).astype(float)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_respected(orientation):
    stored = smooth(48, 64)
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = SourceImage.from_bytes(encode(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    tagged = stored.copy()
    tagged.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(tagged)).astype(float)
    assert (source.height, source.width) == upright.shape[:2]
    decoded = source.pixels()
    assert decoded.shape == upright.shape
    assert np.abs(decoded - upright).mean() < 4


def test_a_crop_sees_its_box_alone():
    image = np.zeros((20, 20, 3), np.uint8)
    image[4:14, 6:16] = 200  # the box; what is outside must not bleed in
    source = SourceImage.from_pixels(image)
    for size in (5, 10, 23):
        np.testing.assert_array_equal(source.crops([(4, 6, 10, 10)], [size])[0], np.full((size, size, 3), 200))


def test_crops_equal_cutting_and_resizing():
    image = smooth(30, 40)
    boxes, sizes = [(2, 3, 20, 31), central_square(30, 40)], [8, 12]
    crops = SourceImage.from_bytes(encode(image)).crops(boxes, sizes)
    for crop, (top, left, height, width), size in zip(crops, boxes, sizes, strict=True):
        cut = image.crop((left, top, left + width, top + height))
        np.testing.assert_array_equal(crop, np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize(
    ("side", "boxes", "expected"),
    [
        (40, [(2, 3, 20, 31), (10, 0, 9, 9)], [(2, 3, 20, 31), (10, 0, 9, 9)]),  # the whole image fits
        (34, [(2, 3, 20, 31), (10, 4, 9, 9)], [(0, 0, 20, 31), (8, 1, 9, 9)]),  # what the boxes cover does
        (33, [(2, 3, 20, 31), (10, 0, 9, 9)], [(0, 0, 8, 8), (0, 8, 8, 8)]),  # nothing but the crops
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_paste(side, boxes, expected, kind):
    data = encode(smooth(30, 40), kind)
    canvas = np.zeros((side, side, 3), np.uint8)
    source = SourceImage.from_bytes(data)
    placed = source.paste(canvas, boxes, 8)
    assert placed.dtype == np.float32
    assert placed.tolist() == [list(box) for box in expected]
    whole = pixels(data)
    crops = SourceImage.from_bytes(data).crops(boxes, [8, 8])
    for (top, left, height, width), (y, x, rows, columns), crop in zip(boxes, expected, crops, strict=True):
        part = canvas[y : y + rows, x : x + columns]
        is_cut = (rows, columns) == (height, width)
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width] if is_cut else crop)
    np.testing.assert_array_equal(source.crops(boxes, [8, 8]), crops)  # after it, as before it


def test_paste_of_what_is_decoded_smaller():
    source = SourceImage.from_bytes(encode(smooth(600, 801), "JPEG", quality=95))
    canvas = np.zeros((801, 801, 3), np.uint8)
    boxes = [(33, 57, 520, 499), (0, 0, 600, 600)]
    assert source.paste(canvas, boxes, 32, reduction=4).tolist() == [[0, 0, 32, 32], [0, 32, 32, 32]]
    with source.held(4) as image:
        assert image.size == (201, 150)
    assert not canvas[32:].any()


def test_canvases_hold_two_crops_and_a_usual_photograph():
    assert canvas_side(224) == 512
    assert all(2 * size <= canvas_side(size) for size in range(1, 600))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_both_decoders_give_the_same_pixels(subsampling, progressive, monkeypatch):
    pytest.importorskip("simplejpeg")
    data = encode(smooth(45, 67), "JPEG", subsampling=subsampling, progressive=progressive)
    fast = SourceImage.from_bytes(data)
    with fast.held() as fast_pixels:
        assert isinstance(fast_pixels, np.ndarray)
    monkeypatch.setattr(decode, "_simplejpeg", lambda: None)
    with SourceImage.from_bytes(data).held() as slow_pixels:
        assert isinstance(slow_pixels, Image.Image)
    np.testing.assert_array_equal(fast_pixels, np.asarray(slow_pixels))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_smaller_to_the_same_crop(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth(600, 801), "JPEG", quality=95, subsampling=0, exif=exif)
    whole = Image.fromarray(pixels(data))
    source = SourceImage.from_bytes(data)
    box = (33, 57, 520, 499)
    reduction = reduction_for([box], [32])
    with source.held(reduction) as image:
        # 1/4: 1/8 would leave fewer than 2 x 32 pixels of the box.
        assert image.size == ((201, 150) if orientation == 1 else (150, 201))
    crop = source.crops([box], [32], reduction=reduction)[0]
    cut = whole.crop((57, 33, 57 + 499, 33 + 520)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(crop - np.asarray(cut).astype(float)).mean() < 1.5


def test_reduction_keeps_twice_the_pixels_of_every_box():
    assert reduction_for([(0, 0, 300, 900)], [50]) == 3
    assert reduction_for([(0, 0, 299, 900)], [50]) == 2
    assert reduction_for([(0, 0, 900, 900), (0, 0, 300, 900)], [10, 50]) == 3
    assert reduction_for([(0, 0, 9, 9)], [50]) == reduction_for([], []) == 1


def test_central_square():
    assert central_square(5, 9) == (0, 2, 5, 5)
    assert central_square(9, 4) == (2, 0, 4, 4)


def header_of(width: int, height: int) -> bytes:
    """A PNG that says it is this large and ends there."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(b"")
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (ihdr, idat))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not an image, but long enough to be one", "not an image"),
        (encode(Image.new("RGB", (40, 40)))[:20], "not an image"),
        (header_of(30_000, 30_000), "more than 89,478,485 pixels"),
        (header_of(10_000, 9_000), "more than 89,478,485 pixels"),
        (encode(smooth(64, 64), "JPEG")[:-400], "truncated or damaged"),
        (encode(smooth(64, 64))[:-900], "truncated or damaged"),
        (encode(Image.new("RGB", (4, 4)), "TIFF")[:40], "not an image"),
    ],
    ids=["empty", "text", "stub", "bomb", "large", "cut jpeg", "cut png", "tiff"],
)
def test_unusable_files(data, reason):
    with pytest.raises(UnreadableImageError, match=f"^{reason}$"):
        pixels(data)
    with pytest.raises(UnreadableImageError, match=f"^{reason}$"):
        SourceImage.from_bytes(data).crops([(0, 0, 2, 2)], [2])
    with pytest.raises(UnreadableImageError, match=f"^{reason}$"):
        SourceImage.from_bytes(data).paste(np.zeros((64, 64, 3), np.uint8), [(0, 0, 2, 2)], 2)


def test_the_limit_is_a_quarter_gib_of_rgb():
    assert MAX_PIXELS * 3 <= 2**28 < (MAX_PIXELS + 1) * 3


def test_other_formats_under_a_borrowed_name():
    image = smooth(16, 16)
    assert np.abs(pixels(encode(image, "WEBP", lossless=True)) - np.asarray(image).astype(float)).max() == 0
    assert pixels(encode(image, "BMP")).shape == (16, 16, 3)
    assert pixels(encode(image, "GIF")).shape == (16, 16, 3)
