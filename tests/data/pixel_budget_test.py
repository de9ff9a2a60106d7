"""Time and memory of decoding are bounded, whatever a file says and however many threads decode."""

import doctest
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_bytes import chunk, encode, random_png, smooth
from PIL import Image

from care_jax import data
from care_jax.data import decode, metadata, pixel_budget
from care_jax.data.decode import DECODING, MAX_PIXELS, SourceImage, UnreadableImageError
from care_jax.data.pixel_budget import PixelBudget


def pixels(encoded: bytes) -> np.ndarray:
    return SourceImage.from_bytes(encoded).pixels()


def test_doctests():
    assert doctest.testmod(pixel_budget).failed == 0


def test_a_limit_to_the_sum():
    budget = PixelBudget(100)
    most, lock = [0], threading.Lock()

    def take(amount):
        with budget.taken(amount):
            with lock:
                most[0] = max(most[0], budget.used)
            time.sleep(0.001)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(take, np.random.default_rng(0).integers(1, 80, 200).tolist()))
    assert 60 < most[0] <= 100
    assert budget.used == 0


def test_one_alone_always_may_and_none_is_passed_by():
    budget = PixelBudget(100)
    order = []

    def take(name, amount, taken):
        with budget.taken(amount):
            order.append(name)
            taken.set()

    waiting = [("large", 500), ("small", 10)]
    with budget.taken(50):
        events = [threading.Event() for _ in waiting]
        threads = [
            threading.Thread(target=take, args=(*each, taken)) for each, taken in zip(waiting, events, strict=True)
        ]
        for i, thread in enumerate(threads):
            thread.start()
            while len(budget._waiting) <= i:
                time.sleep(0.001)
        assert not any(taken.wait(0.02) for taken in events)  # the small one would fit, but it came later
    for thread in threads:
        thread.join(10)
    assert order == ["large", "small"]
    assert budget.used == 0


def test_what_fails_gives_its_pixels_back():
    budget = PixelBudget(10)
    with pytest.raises(RuntimeError), budget.taken(10):
        raise RuntimeError
    assert budget.used == 0
    truncated = encode(smooth(64, 64))[:-900]
    with pytest.raises(UnreadableImageError):
        pixels(truncated)
    assert DECODING.used == 0


def test_the_limit_is_the_largest_image():
    assert DECODING.limit == MAX_PIXELS


def test_pixels_are_held_once_and_then_forgotten(monkeypatch):
    decoded = []
    original = SourceImage._decoded
    monkeypatch.setattr(SourceImage, "_decoded", lambda self, *args: decoded.append(1) or original(self, *args))
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        source = SourceImage.from_bytes(encode(smooth(30, 40), kind))
        decoded.clear()
        with source.held():
            assert DECODING.used == 1200
            first = [source.pixels(), *source.crops([(0, 0, 30, 30)], [8])]
            source.paste(np.zeros((64, 64, 3), np.uint8), [(0, 0, 30, 30)], 8)
        assert (len(decoded), DECODING.used, source._pixels, source._opened) == (1, 0, None, None)
        for one, other in zip(first, [source.pixels(), *source.crops([(0, 0, 30, 30)], [8])], strict=True):
            np.testing.assert_array_equal(one, other)
        assert len(decoded) == 3


@pytest.mark.parametrize(
    ("kind", "options", "cost"),
    [
        ("JPEG", {}, 600 * 800 // 16),
        ("JPEG", {"progressive": True}, 600 * 800),  # its coefficients lie in memory in full
        ("PNG", {}, 600 * 800),
    ],
)
def test_what_is_decoded_smaller_takes_less_room(kind, options, cost):
    source = SourceImage.from_bytes(encode(smooth(600, 800), kind, **options))
    with source.held(5) as image:
        assert DECODING.used == cost
        assert (image.width * image.height == cost) or kind == "PNG" or options


@pytest.fixture
def folder(tmp_path):
    for i in range(40):
        smooth(20, 20).save(tmp_path / f"{i:02d}.png")
    return tmp_path


@pytest.mark.parametrize("resident", [True, False])
def test_loading_a_folder_is_bounded(folder, resident, most_at_once, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    data.load("image_folder", root=folder, image_size=8, resident=resident)
    assert 0 < most_at_once[0] <= 800


def scans(jpeg: bytes, number: int) -> bytes:
    """Its last scan over and over, which is allowed: it refines what is there."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * (number - jpeg.count(b"\xff\xda")) + b"\xff\xd9"


@pytest.mark.parametrize("simplejpeg", [True, False])
def test_scans_of_a_jpeg(simplejpeg, monkeypatch):
    if not simplejpeg:
        monkeypatch.setattr(decode, "_simplejpeg", lambda: None)
    progressive = encode(smooth(48, 48), "JPEG", progressive=True)
    assert metadata.strip(progressive).scans == progressive.count(b"\xff\xda") == 10
    assert pixels(scans(progressive, 100)).shape == (48, 48, 3)
    for number in (101, 300):
        with pytest.raises(UnreadableImageError, match=r"^too many scans$"):
            pixels(scans(progressive, number))


def test_scans_of_a_large_jpeg(monkeypatch):
    progressive = encode(smooth(48, 48), "JPEG", progressive=True)
    monkeypatch.setattr(decode, "MAX_PIXELS", 48 * 48 * 2)
    assert pixels(scans(progressive, 40)).shape == (48, 48, 3)
    with pytest.raises(UnreadableImageError, match=r"^too many scans$"):
        pixels(scans(progressive, 41))


def test_what_only_looks_like_scans():
    """A thumbnail, another image behind the first, a film behind that."""
    for options in ({}, {"progressive": True}):
        jpeg = encode(smooth(48, 48), "JPEG", **options)
        segment = b"\xff\xdd\0\4\0\0"  # no restarts
        table = jpeg.index(b"\xff\xdb")
        many = jpeg[:2] + b"\xff\xe5\x02\x02" + b"\xff\xda" * 256 + jpeg[2:table] + segment + jpeg[table:]
        many += b"\0\2" + b"\xff\xda\0\2" * 300
        assert metadata.strip(many).scans == (10 if options else 1)
        np.testing.assert_array_equal(pixels(many), pixels(jpeg))


def test_parts_without_number(monkeypatch):
    monkeypatch.setattr(metadata, "_MAX_PARTS", 50)
    comment = b"!\xfe\1x\0"
    gif = encode(smooth(8, 8).convert("P"), "GIF")
    palette = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    files = {
        "png": lambda n: random_png(8, 2, chunk(b"teSt", b"") * n)[0],
        "jpeg": lambda n: (jpeg := encode(smooth(8, 8), "JPEG"))[:2] + b"\xff\xfe\0\2" * n + jpeg[2:],
        "gif": lambda n: gif[:palette] + comment * n + gif[palette:],
        "webp": lambda n: webp(n),
    }
    for name, file in files.items():
        np.testing.assert_array_equal(pixels(file(20)), pixels(file(0)), err_msg=name)
        with pytest.raises(UnreadableImageError, match=r"^too many parts$"):
            pixels(file(60))


def webp(parts: int) -> bytes:
    encoded = encode(smooth(8, 8), "WEBP", lossless=True)
    body = encoded[8:] + b"none\0\0\0\0" * parts
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_frames_behind_the_first_are_not_looked_at():
    images = [smooth(24, 40).convert("P", palette=Image.Palette.ADAPTIVE), smooth(24, 40).rotate(180).convert("P")]
    for kind, frame in (("GIF", b"!\xf9"), ("WEBP", b"ANMF"), ("PNG", b"fcTL")):
        whole = encode(images[0], kind, save_all=True, append_images=images[1:])
        second = whole.rindex(frame)
        damaged = whole[: second + 20] + bytes(len(whole) - second - 20)
        np.testing.assert_array_equal(pixels(damaged), pixels(whole), err_msg=kind)


def test_a_compressed_bmp_of_many_pixels(monkeypatch):
    """Pillow decodes it in Python: 22 s for a kB, if it is one long row."""
    header = bytearray(encode(Image.new("P", (64, 64)), "BMP")[:1078])
    struct.pack_into("<I", header, 30, 1)
    assert pixels(bytes(header) + b"\x40\5\0\0" * 64 + b"\0\1").shape == (64, 64, 3)
    struct.pack_into("<ii", header, 18, 2**24 + 1, 1)
    with pytest.raises(UnreadableImageError, match=r"^compressed BMP of more than 16,777,216 pixels$"):
        pixels(bytes(header) + b"\1\1\0\0")
