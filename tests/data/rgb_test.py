"""Every mode and bit depth comes out as 8-bit RGB, over white where it is transparent."""

import struct

import numpy as np
import pytest
from image_bytes import chunk, encode, gray_tiff, png, random_png, shown_by_pillow, smooth, tiff
from PIL import Image

from care_jax.data.decode import SourceImage, UnreadableImageError

PALETTE = np.random.default_rng(2).integers(0, 256, (256, 3), dtype=np.uint8)


def pixels(data: bytes) -> np.ndarray:
    return SourceImage.from_bytes(data).pixels()


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] and [h, w, 1] in [0, 255]."""
    return np.round((colours * alpha + 255.0 * (255 - alpha)) / 255).astype(int)


def eight_bits(samples: np.ndarray, depth: int) -> np.ndarray:
    return np.round(samples * (255 / (2**depth - 1))).astype(int)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", [0, 1, -1])
def test_gray_png(depth, transparent):
    level = transparent % 2**depth
    # Bits above the depth don't count.
    stored = level | 2**depth if depth < 16 else level
    data, samples = random_png(depth, 0, chunk(b"tRNS", struct.pack(">H", stored)))
    samples[0, 0] = level
    data = png(samples, depth, 0, chunk(b"tRNS", struct.pack(">H", stored)))
    expected = np.where(samples == level, 255, eight_bits(samples, depth))
    np.testing.assert_array_equal(pixels(data), np.repeat(expected, 3, -1))
    opaque = np.repeat(eight_bits(samples, depth), 3, -1)
    np.testing.assert_array_equal(pixels(png(samples, depth, 0)), opaque)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("entries", [0, 1, 2, 256])
def test_palette_png(depth, entries):
    colours = PALETTE[: 2**depth]
    alpha = np.r_[np.random.default_rng(3).integers(0, 256, entries), np.full(256, 255)][: 2**depth]
    table = alpha[:entries].astype(np.uint8).tobytes()
    before = [chunk(b"PLTE", colours.tobytes())] + [chunk(b"tRNS", table)] * bool(entries)
    data, samples = random_png(depth, 3, *before)
    expected = over_white(colours[samples[..., 0]].astype(float), alpha[samples])
    assert np.abs(pixels(data) - expected).max() <= (1 if entries else 0)
    only = chunk(b"tRNS", b"\xff\0")  # one index, wholly transparent: Pillow keeps that as a number
    data, samples = random_png(depth, 3, chunk(b"PLTE", colours.tobytes()), only)
    np.testing.assert_array_equal(pixels(data), np.where(samples == 1, 255, colours[samples[..., 0]]))


@pytest.mark.parametrize("depth", [8, 16])
def test_rgb_png_with_a_transparent_colour(depth):
    _, samples = random_png(depth, 2)
    samples[0, 0] = transparent = [200, 2, 1] if depth == 8 else [0x1234, 0x00FF, 0xFF00]
    samples[0, 1] = [200, 2, 2] if depth == 8 else [0x1234, 0x00FF, 0xFF01]  # of 16 bits, 8 are kept
    data = png(samples, depth, 2, chunk(b"tRNS", struct.pack(">3H", *transparent)))
    expected = samples if depth == 8 else samples >> 8
    np.testing.assert_array_equal(pixels(png(samples, depth, 2)), expected)
    expected[0, 0] = 255
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [4, 6])
def test_png_with_alpha(depth, colour):
    data, samples = random_png(depth, colour, chunk(b"tRNS", b"\0\0"))  # which has no place there
    colours, alpha = (samples[..., :-1] >> depth - 8, samples[..., -1:] >> depth - 8)
    expected = np.broadcast_to(over_white(colours.astype(float), alpha), (*samples.shape[:2], 3))
    assert np.abs(pixels(data) - expected).max() <= 1
    np.testing.assert_array_equal(pixels(data), shown_by_pillow(data))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "PA", "I;16", "I;16B"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff(mode, compression):
    image = smooth(20, 30)
    if mode.startswith("I"):
        levels = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(">u2" if mode == "I;16B" else "<u2")
        expected = np.repeat(np.round(levels / 257.0).astype(np.uint8)[..., None], 3, -1)
        image = Image.fromarray(levels)
        assert image.mode == mode
    elif mode == "PA":
        image = image.convert("P")
        image.putalpha(smooth(20, 30).convert("L"))
    else:
        image = image.convert("RGB" if mode == "LAB" else mode)
        if mode in ("RGBA", "LA"):
            image.putalpha(image.getchannel(0))
    if mode == "LAB":
        image = Image.frombytes("LAB", image.size, image.tobytes())
    data = encode(image, "TIFF", compression=compression)
    if not mode.startswith("I"):
        expected = shown_by_pillow(data)
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("colours", [1, 3])
def test_tiff_with_alpha(extra, colours):
    """Multiplied into the colours (1), or not (2)."""
    alpha = np.random.default_rng(0).integers(1, 256, (6, 8, 1))
    levels = np.random.default_rng(1).integers(0, 256, (6, 8, colours))
    stored = np.concatenate([levels * alpha // 255 if extra == 1 else levels, alpha], -1).astype(np.uint8)
    fields = {256: (4, [8]), 257: (4, [6]), 258: (3, [8] * (colours + 1)), 262: (3, [1 if colours == 1 else 2])}
    data = tiff(fields | {277: (3, [colours + 1]), 278: (4, [6]), 338: (3, [extra])}, stored.tobytes())
    assert np.abs(pixels(data) - over_white(levels.astype(float), alpha)).max() <= 2


def test_gray_tiff_of_unusual_range():
    levels = np.random.default_rng(0).integers(0, 4096, (6, 8))
    expected = np.repeat(np.round(levels * (255 / 4095))[..., None], 3, -1)
    np.testing.assert_array_equal(pixels(gray_tiff(levels, 12)), expected)
    levels = np.random.default_rng(0).integers(0, 65536, (6, 8)).astype("<u2")
    expected = np.repeat(np.round((65535 - levels.astype(float)) / 257)[..., None], 3, -1)
    np.testing.assert_array_equal(pixels(gray_tiff(levels, 16, photometric=0)), expected)  # white is zero


@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_the_highest_level_of_16_bits_is_known_once_decoded(top):
    def highest(data):
        image = SourceImage.from_bytes(data)
        assert image.highest_level is None
        image.pixels()
        return image.highest_level

    levels = np.random.default_rng(0).integers(0, top, (6, 8))
    levels[2, 3] = top
    for order in ("<u2", ">u2"):
        for compression in ("raw", "tiff_lzw"):
            assert highest(encode(Image.fromarray(levels.astype(order)), "TIFF", compression=compression)) == top
    assert highest(gray_tiff(levels.astype("<u2"), 16, photometric=0)) == 65535 - levels.min()  # white is zero
    assert highest(png(levels[..., None], 16, 0)) == top
    opaque = np.full((6, 8, 1), 65535)  # alpha is no light
    for colour, channels in ((2, 3), (4, 1), (6, 3)):
        samples = np.concatenate([np.repeat(levels[..., None], channels, -1), opaque][: 1 if colour == 2 else 2], -1)
        assert highest(png(samples, 16, colour)) == top | 255  # of colours the high bytes are kept


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG"])
def test_fewer_bits_have_no_highest_level(kind):
    image = SourceImage.from_bytes(encode(smooth(9, 9), kind))
    image.pixels()
    assert image.highest_level is None
    twelve = SourceImage.from_bytes(gray_tiff(np.zeros((6, 8), int), 12))  # its white is level 4095
    twelve.pixels()
    assert twelve.highest_level is None


@pytest.mark.parametrize(("kind", "sample_format", "bits"), [("<f4", 3, 32), ("<i4", 2, 32), ("<i2", 2, 16)])
def test_levels_of_unknown_range_are_refused(kind, sample_format, bits):
    data = gray_tiff(np.ones((6, 8), kind), bits, tag_339=(3, [sample_format]))
    with pytest.raises(UnreadableImageError, match=r"^32-bit, signed or floating-point levels$"):
        SourceImage.from_bytes(data)


@pytest.mark.parametrize("transparency", [None, 3])
@pytest.mark.parametrize("corner", [(0, 0), (5, 2)])
def test_first_frame_of_a_gif(transparency, corner):
    frames = [Image.fromarray(np.random.default_rng(i).integers(0, 8, (9, 13), dtype=np.uint8), "P") for i in range(3)]
    for frame in frames:
        frame.putpalette(PALETTE[:8].tobytes())
    options = {} if transparency is None else {"transparency": transparency, "disposal": 2}
    data = bytearray(encode(frames[0], "GIF", save_all=True, append_images=frames[1:], **options))
    # Its canvas is wider and higher than the frame.
    data[6:10] = struct.pack("<HH", 20, 12)
    place = data.index(b",", 13 + 3 * 8) + 1
    data[place : place + 4] = struct.pack("<HH", *corner)
    found = pixels(bytes(data))
    assert found.shape == (12, 20, 3)
    np.testing.assert_array_equal(found, shown_by_pillow(bytes(data)))
    index = np.asarray(frames[0])
    colours = PALETTE[index].astype(int)
    if transparency is not None:
        colours[index == transparency] = 255
    np.testing.assert_array_equal(found[corner[1] : corner[1] + 9, corner[0] : corner[0] + 13], colours)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_bmp(mode):
    data = encode(smooth(20, 30).convert(mode), "BMP")
    np.testing.assert_array_equal(pixels(data), shown_by_pillow(data))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
def test_webp(mode, lossless, frames):
    image = smooth(20, 30).convert(mode)
    if mode == "RGBA":
        image.putalpha(image.getchannel(0))
    others = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] * (frames - 1)
    options = {"save_all": True, "append_images": others} if others else {}
    data = encode(image, "WEBP", lossless=lossless, **options)
    np.testing.assert_array_equal(pixels(data), shown_by_pillow(data))
