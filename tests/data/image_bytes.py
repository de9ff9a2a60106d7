"""Image files for tests: encoded by Pillow, or put together by hand where it writes no such file."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height: int, width: int, rng: np.random.Generator | None = None) -> Image.Image:
    """The same each time, or as the generator has it."""
    rng = np.random.default_rng(1) if rng is None else rng
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


class Encoded:
    """`data.EncodedImages` in memory."""

    def __init__(self, files: Sequence[bytes]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        return self.files[index]

    def name(self, index: int) -> str:
        return f"file {index}"


def shown_by_pillow(data: bytes) -> np.ndarray:
    """What a viewer shows: upright, over white."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def chunk(kind: bytes, content: bytes, checksum: int = 0) -> bytes:
    """Of a PNG; `checksum` is added to the right one."""
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", (right + checksum) % 2**32)


def png(samples: np.ndarray, depth: int, colour: int, *before: bytes, after: bytes = b"") -> bytes:
    """Of samples [h, w, c], with chunks before and after the pixels."""
    height, width, _ = samples.shape
    bits = samples.reshape(height, -1, 1).astype(np.uint16) >> np.arange(depth)[::-1] & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = zlib.compress(raw)
    half = len(pixels) // 2
    data = chunk(b"IDAT", pixels[:half]) + chunk(b"IDAT", pixels[half:])
    return PNG_SIGNATURE + header + b"".join(before) + data + after + chunk(b"IEND", b"")


def random_png(depth: int, colour: int, *before: bytes, seed: int = 0, after: bytes = b"") -> tuple[bytes, np.ndarray]:
    """(file, its samples [h, w, c])."""
    samples = np.random.default_rng(seed).integers(0, 2**depth, (9, 13, CHANNELS[colour]))
    return png(samples, depth, colour, *before, after=after), samples


def tiff(fields: dict[int, tuple[int, list[int]]], pixels: bytes, order: str = "<") -> bytes:
    """A TIFF file of one strip, which starts at byte 8: fields are {tag: (type, values)}, its place is added."""
    sizes = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B"}
    fields = fields | {273: (4, [8]), 279: (4, [len(pixels)])}
    directory = 8 + len(pixels) + len(pixels) % 2
    behind = directory + 2 + 12 * len(fields) + 4
    entries, extra = b"", b""
    for tag, (kind, values) in sorted(fields.items()):
        content = struct.pack(f"{order}{len(values)}{sizes[kind]}", *values)
        if len(content) > 4:
            place = struct.pack(order + "I", behind + len(extra))
            extra += content
        else:
            place = content.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, directory)
    body = head + pixels.ljust(directory - 8, b"\0") + struct.pack(order + "H", len(fields)) + entries + bytes(4)
    return body + extra


def gray_tiff(samples: np.ndarray, bits: int, photometric: int = 1, **fields) -> bytes:
    """Of packed samples as bytes, or an array [h, w]; `fields` are added as tag_274=(3, [6])."""
    height, width = samples.shape
    own = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 262: (3, [photometric]), 278: (4, [height])}
    if bits == 12:
        packed = (samples.astype(np.uint16)[..., None] >> np.arange(12)[::-1] & 1).reshape(height, -1).astype(np.uint8)
        pixels = np.packbits(packed, axis=1).tobytes()
    else:
        pixels = samples.tobytes()
    return tiff(own | {int(name.removeprefix("tag_")): field for name, field in fields.items()}, pixels)
