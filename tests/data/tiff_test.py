"""TIFF files: the first page, within bounds, and by nothing but the library."""

import os
import struct
import subprocess
import zlib

import numpy as np
import pytest
from image_bytes import encode, gray_tiff, shown_by_pillow, smooth, tiff
from PIL import Image

from care_jax.data.decode import MAX_PIXELS, SourceImage, UnreadableImageError

LEVELS = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
SIZE = {256: (4, [16]), 257: (4, [16]), 258: (3, [8]), 262: (3, [1])}


def tiled(tile: int, compression: int, pixels: bytes) -> bytes:
    fields = SIZE | {259: (3, [compression]), 322: (4, [tile]), 323: (4, [tile])}
    return tiff(fields | {324: (4, [8]), 325: (4, [len(pixels)])}, pixels)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "zstd", "lzma"])
def test_the_first_of_many_pages(compression):
    others = [smooth(9, 9), Image.new("L", (4, 4))]
    data = encode(smooth(24, 40), "TIFF", compression=compression, save_all=True, append_images=others)
    np.testing.assert_array_equal(SourceImage.from_bytes(data).pixels(), shown_by_pillow(data))
    at = int.from_bytes(data[4:8], "little")  # of the first page's directory
    following = at + 2 + 12 * int.from_bytes(data[at : at + 2], "little")
    endless = data[:following] + struct.pack("<I", at) + data[following + 4 :]  # itself
    np.testing.assert_array_equal(SourceImage.from_bytes(endless).pixels(), shown_by_pillow(data))


def test_tiles():
    for compression, pixels in ((1, LEVELS.tobytes()), (8, zlib.compress(LEVELS.tobytes()))):
        np.testing.assert_array_equal(SourceImage.from_bytes(tiled(16, compression, pixels)).pixels()[..., 0], LEVELS)


def test_a_tile_larger_than_its_image_counts_as_what_it_takes():
    source = SourceImage.from_bytes(tiled(9456, 8, zlib.compress(bytes(100))))
    assert source._cost == 9456**2 <= MAX_PIXELS
    for side in (9472, 2**16, 2**31):
        with pytest.raises(UnreadableImageError, match=r"^more than 89,478,485 pixels$"):
            SourceImage.from_bytes(tiled(side, 8, zlib.compress(bytes(100))))


def test_as_many_parts_as_an_honest_file_has(monkeypatch):
    monkeypatch.setattr("care_jax.data.tiff._MAX_PARTS", 16)
    for rows, is_readable in ((16, True), (17, False)):
        fields = {256: (4, [1]), 257: (4, [rows]), 258: (3, [8]), 262: (3, [1]), 278: (4, [1]), 279: (4, [1] * rows)}
        data = bytearray(tiff(fields | {274: (4, list(range(8, 8 + rows)))}, bytes(range(rows))))
        (at,) = struct.unpack_from("<I", data, 4)
        places = {struct.unpack_from("<H", data, at + 2 + 12 * i)[0]: at + 2 + 12 * i for i in range(data[at])}
        struct.pack_into("<H", data, places[273], 270)
        struct.pack_into("<H", data, places[274], 273)  # a strip a row
        if is_readable:
            assert SourceImage.from_bytes(bytes(data)).pixels()[:, 0, 0].tolist() == list(range(rows))
        else:
            with pytest.raises(UnreadableImageError, match=r"^not an image$"):
                SourceImage.from_bytes(bytes(data))


@pytest.mark.parametrize("compression", [1, 2, 3, 4, 5, 6, 7, 8, 32773, 34676, 34887, 34925, 50000, 50001])
def test_no_program_is_started_and_nothing_but_this_error_raised(compression, monkeypatch, capfd):
    def start(*_, **__):
        raise AssertionError("a program is started")

    for name in ("Popen", "run", "call", "check_call"):
        monkeypatch.setattr(subprocess, name, start)
    for name in ("system", "popen", "posix_spawn", "execv", "fork"):
        monkeypatch.setattr(os, name, start)
    rng = np.random.default_rng(compression)
    for content in (b"", bytes(50), rng.bytes(256), zlib.compress(LEVELS.tobytes())):
        data = gray_tiff(LEVELS, 8, tag_259=(3, [compression])).replace(
            LEVELS.tobytes(), content.ljust(256, b"\0")[:256]
        )
        try:
            assert SourceImage.from_bytes(data).pixels().shape == (16, 16, 3)
        except UnreadableImageError as error:
            assert not isinstance(error.__cause__, AssertionError)
    capfd.readouterr()  # libtiff's own words
