"""Which way up an image is, by its Exif or XMP data: a few lines that take damage for absence."""

import contextlib
import re
import struct

_ORIENTATION, XMP_FIELD = 0x0112, 0x02BC
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B"}  # of a field: integers, and what may hold a text
_MAX_FIELDS = 2**16  # which a TIFF directory has, at most; BigTIFF's count is larger
DAMAGE = (struct.error, KeyError, OverflowError)  # of a directory; as good as none


def orientation(exif: bytes, xmp: bytes) -> int:
    """What Exif says, or else XMP; 1 if neither says anything that can be understood."""
    layout, content = field(exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0"), _ORIENTATION)
    match = _XMP_ORIENTATION.search(xmp)
    if layout and struct.calcsize(layout) == len(content):
        (found,) = struct.unpack(layout, content)
    else:
        found = int(match[1]) if match else 1
    return found if 1 <= found <= 8 else 1


def field(tiff: bytes, tag: int) -> tuple[str, bytes]:
    """Of the first directory of a TIFF file, which Exif data is too: layout of one value, all values; else empty."""
    with contextlib.suppress(*DAMAGE):
        order, entry, offset, places = directory(tiff)
        for place in places:
            found, kind, number = struct.unpack_from(order + entry, tiff, place)
            if found == tag:
                layout = order + _TYPES[kind]
                size = number * struct.calcsize(layout)
                start = place + struct.calcsize(order + entry)
                if size > struct.calcsize(order + offset):
                    (start,) = struct.unpack_from(order + offset, tiff, start)
                return layout, tiff[start : start + size]
    return "", b""


def directory(tiff: bytes) -> tuple[str, str, str, range]:
    """Byte order, layout of an entry up to its value and of an offset, and where the entries of the first one lie."""
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    (version,) = struct.unpack_from(order + "H", tiff, 2)
    entry, offset, count = ("HHQ", "Q", "Q") if version == 43 else ("HHI", "I", "H")
    (start,) = struct.unpack_from(order + offset, tiff, 8 if version == 43 else 4)
    (number,) = struct.unpack_from(order + count, tiff, start)
    start += struct.calcsize(order + count)
    step = struct.calcsize(order + entry + offset)
    number = min(number, _MAX_FIELDS, max(0, len(tiff) - start) // step)
    return order, entry, offset, range(start, start + step * number, step)
