"""What image files hold besides their pixels: taken out before a decoder sees it.

Pixels decide whether a file is usable; metadata never does. Decoders read all of a header, and refuse a file for a text
that is too long, a checksum of a comment or a resolution that is no number. What is left here is what makes the pixels;
of the rest only the orientation is read, by a few lines that take damage for absence.
"""

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from care_jax.data.exif import DAMAGE, XMP_FIELD, directory, field, orientation

_MAX_PARTS = 2**18  # of a file
_MAX_TEXT = 2**20  # bytes of a compressed text that are looked at

# What may follow inside a JPEG file's pixels (a stuffed zero, restarts) or stands alone is no marker of a segment.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")
_SOI, _EOI, _SOS, _COM, _APP = 0xD8, 0xD9, 0xDA, 0xFE, range(0xE0, 0xF0)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
# Application segments that say in which colours a JPEG file is, and from which length on decoders believe them.
_COLOUR_SEGMENTS = {(0xE0, b"JFIF\0"): 14, (0xEE, b"Adobe"): 12}
# libtiff's own limit for a JPEG inside a TIFF. Encoders make about ten; each costs a pass over all pixels.
MAX_SCANS = 100
# And of the largest image.
MAX_SCANS_OF_THE_LARGEST = 20

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_XMP, _PNG_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"
_GRAY, _RGB, _PALETTE = 0, 2, 3
# Sizes, layout, compression and its tables, colours; of the three kinds of pages the first.
_TIFF_PIXELS = {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325}
_TIFF_PIXELS |= {332, 338, 339, 347, *range(512, 522), 529, 530, 531, 532, 50674}
_WEBP_PIXELS = (b"VP8X", b"ANIM", b"ALPH", b"VP8 ", b"VP8L")
_WEBP_PROFILE_EXIF_XMP = 0x2C  # flags of VP8X


class Encoded(NamedTuple):
    """An image file without its metadata.

    Attributes:
      data: the file; of an animated PNG or WebP what shows its first image, of other formats all of it.
      orientation: 1 to 8 as in Exif; 1 is upright.
      scans: passes over the pixels of a JPEG file, at most so many below `MAX_SCANS_OF_THE_LARGEST`; 1 of others.
    """

    data: bytes
    orientation: int = 1
    scans: int = 1


def strip(data: bytes) -> Encoded:
    """Takes the metadata out of a JPEG, PNG, WebP, TIFF or GIF file, and finds its orientation.

    Whatever is not understood is left to the decoder.

    Raises:
      ValueError: more than 2**18 parts, each of which takes time.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _strip_jpeg(data)
    if data.startswith(_PNG_SIGNATURE):
        return _strip_png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _strip_webp(data)
    if data.startswith((b"II", b"MM")):
        return _strip_tiff(data)
    if data.startswith(b"GIF8"):
        return _strip_gif(data)
    return Encoded(data)


def _bounded() -> Iterator[None]:
    """For loops over the parts of a file: as many steps as an honest one takes."""
    for _ in range(_MAX_PARTS):
        yield
    raise ValueError("too many parts")


def _strip_jpeg(data: bytes) -> Encoded:
    kept, exif, xmp = [data[:2]], b"", b""
    components = 0  # of the frame; 0: it comes in several scans, whatever the first holds
    position = 2
    for _ in _bounded():
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            break
        marker, start = found[1][0], found.end() - 2
        stop = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if marker in (_SOI, _EOI, _SOS) or not start + 4 <= stop <= len(data):
            position = start
            break
        content = data[start + 4 : stop]
        if marker in _FRAMES:
            components = content[5] if len(content) > 5 and marker not in _PROGRESSIVE else 0
        if marker not in (_COM, *_APP) or len(content) >= _COLOUR_SEGMENTS.get((marker, content[:5]), 2**16):
            kept.append(data[start:stop])
        elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif = exif or content
        elif marker == 0xE1 and content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = xmp or content
        position = stop
    kept.append(data[position:])
    # Of a frame that lies in one scan, decoders read no other.
    scans = 1 if components and data[position + 4 : position + 5] == bytes([components]) else _scans(data, position)
    return Encoded(b"".join(kept), orientation(exif, xmp), scans)


def _scans(data: bytes, start: int) -> int:
    """How many scans a JPEG file has from `start` on: a bound where it is low, which is all that most need."""
    scans = data.count(bytes([0xFF, _SOS]), start)
    if scans <= MAX_SCANS_OF_THE_LARGEST:
        return scans
    scans = 0  # some of these bytes may lie inside a table, or behind the image
    while scans <= MAX_SCANS and (found := _JPEG_MARKER.search(data, start)) and found[1][0] != _EOI:
        scans += found[1][0] == _SOS
        start = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2]))
    return scans


def _strip_png(data: bytes) -> Encoded:
    depth, colour = data[24:26].ljust(2, b"\0")
    kept, exif, xmp, profile = [], b"", b"", b""
    start = position = 0  # start: of what is kept next
    stop = len(_PNG_SIGNATURE)
    for _ in _bounded():
        if stop + 8 > len(data):
            break
        position = stop
        length, kind = struct.unpack_from(">I4s", data, position)
        stop = min(position + 12 + length, len(data))
        if kind == b"IEND":
            break
        if not kind.isalpha():
            stop = len(data)  # no chunk, and so none behind it
        elif kind in (b"IHDR", b"IDAT") or (kind == b"PLTE" and colour == _PALETTE):
            continue
        kept.append(data[start:position])
        start = stop
        if kind == b"tRNS":
            content = _content(data, position, length)
            kept.append(_png_transparency(content, depth, colour))
        elif kind == b"eXIf":
            exif = exif or _content(data, position, length)
        elif kind in _PNG_TEXTS and data.startswith((_PNG_XMP, _PNG_EXIF), position + 8):
            keyword, text = _png_text(kind, _content(data, position, length))
            xmp = xmp or (text if keyword == _PNG_XMP else b"")
            profile = profile or (text if keyword == _PNG_EXIF else b"")
    if not exif and profile:  # as ImageMagick wrote before PNG had a place for it: three lines, then hexadecimal
        try:
            exif = bytes.fromhex("".join(profile.decode("latin-1").split("\n")[3:]))
        except ValueError:
            exif = b""
    return Encoded(b"".join([*kept, data[start:]]) if kept else data, orientation(exif, xmp))


def _content(data: bytes, position: int, length: int) -> bytes:
    """Of the PNG chunk that starts there; empty if its checksum is wrong: as libpng does, it is taken for absent."""
    content, checksum = data[position + 8 : position + 8 + length], data[position + 8 + length : position + 12 + length]
    return content if zlib.crc32(data[position + 4 : position + 8 + length]).to_bytes(4) == checksum else b""


def _png_transparency(content: bytes, depth: int, colour: int) -> bytes:
    """A tRNS chunk with the transparent level as Pillow has it, scaled to 8 bits; nothing where there can't be one."""
    if colour == _PALETTE:
        levels = content[:256]
    else:
        count = {_GRAY: 1, _RGB: 3}.get(colour, 0)
        if len(content) < 2 * count:
            return b""
        mask = 2 ** max(1, min(depth, 16)) - 1  # the other bits don't count
        scale = 255 // mask if depth in (2, 4) else 1
        samples = struct.unpack_from(f">{count}H", content)
        levels = struct.pack(f">{count}H", *((sample & mask) * scale for sample in samples))
    if not levels:
        return b""
    chunk = b"tRNS" + levels
    return len(levels).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)


def _png_text(kind: bytes, content: bytes) -> tuple[bytes, bytes]:
    """Keyword and text; of a compressed one the first `_MAX_TEXT` bytes."""
    keyword, _, text = content.partition(b"\0")
    is_compressed = kind == b"zTXt"
    if kind == b"iTXt":
        is_compressed = text[:1] == b"\1"
        text = b"\0" + text[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not is_compressed:
        return keyword, text
    try:
        return keyword, zlib.decompressobj().decompress(text[1:], _MAX_TEXT)
    except zlib.error:
        return keyword, b""


def _strip_webp(data: bytes) -> Encoded:
    kept, exif, xmp, has_frame = [], b"", b"", False
    position = 12
    end = 8 + int.from_bytes(data[4:8], "little")
    data = data[:end] + bytes(end == len(data) + 1)  # some writers leave out the last byte, which only fills up
    for _ in _bounded():
        if position + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        stop = position + 8 + length + length % 2
        content = data[position + 8 : position + 8 + length] if kind in (b"EXIF", b"XMP ", b"VP8X") else b""
        if kind == b"VP8X" and content:
            flags = content[0] & ~_WEBP_PROFILE_EXIF_XMP
            kept.append(data[position : position + 8] + bytes([flags]) + data[position + 9 : stop])
        elif kind in _WEBP_PIXELS or (kind == b"ANMF" and not has_frame):
            kept.append(data[position:stop])
            has_frame = has_frame or kind == b"ANMF"
        elif kind == b"EXIF":
            exif = exif or content
        elif kind == b"XMP ":
            xmp = xmp or content
        position = stop
    body = b"WEBP" + b"".join(kept)
    return Encoded(b"RIFF" + struct.pack("<I", len(body)) + body, orientation(exif, xmp))


def _strip_gif(data: bytes) -> Encoded:
    parts = _bounded()
    position = 13 + (6 << (data[10] & 7) if data[10:11] >= b"\x80" else 0)  # behind the palette of all images
    kept, is_all = [data[:position]], True
    while data[position : position + 1] == b"!":  # an extension; if it is none, the first image
        start = position
        position += 2
        while length := int.from_bytes(data[position : position + 1]):
            position += 1 + length
            next(parts)
        position += 1
        next(parts)
        if data[start + 1 : start + 2] == b"\xf9" and data[start + 2] >= 4:  # which says what is transparent
            kept.append(data[start:position])
        else:
            is_all = False
    return Encoded(data if is_all else b"".join([*kept, data[position:]]))


def _strip_tiff(data: bytes) -> Encoded:
    stripped = data
    with contextlib.suppress(*DAMAGE):
        order, entry, offset, places = directory(data)
        entries = bytearray(data[places.start : places.stop])
        for place in range(0, len(entries), places.step):
            (tag,) = struct.unpack_from(order + "H", entries, place)
            if tag not in _TIFF_PIXELS:  # Pillow gives up at the first that lies beyond the file
                struct.pack_into(order + entry + offset, entries, place, tag, 1, 1, 0)
        whole = memoryview(data)  # which is not copied once more to be cut
        stripped = b"".join([whole[: places.start], entries, whole[places.stop :]])
    return Encoded(stripped, orientation(data, field(data, XMP_FIELD)[1]))
