"""Pixels decide what a file is good for, metadata never does; of that, the orientation alone is followed."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_bytes import PNG_SIGNATURE, chunk, encode, gray_tiff, png, random_png, shown_by_pillow, smooth
from PIL import Image, PngImagePlugin

from care_jax.data.decode import SourceImage, UnreadableImageError
from care_jax.data.metadata import strip

IMAGE = smooth(24, 40)
# Kind and options for Pillow of every format that has an orientation.
FORMATS = {
    "jpeg": ("JPEG", {}),
    "gray jpeg": ("JPEG", {}),
    "progressive jpeg": ("JPEG", {"progressive": True}),
    "mpo": ("MPO", {"save_all": True, "append_images": [IMAGE.rotate(180)]}),
    "png": ("PNG", {}),
    "apng": ("PNG", {"save_all": True, "append_images": [IMAGE.rotate(180)]}),
    "lossy webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "animated webp": ("WEBP", {"save_all": True, "append_images": [IMAGE.rotate(180)]}),
    "tiff": ("TIFF", {}),
    "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "jpeg tiff": ("TIFF", {"compression": "jpeg"}),
    "tiff of two pages": ("TIFF", {"save_all": True, "append_images": [IMAGE.rotate(180)]}),
    "big tiff": ("TIFF", {"big_tiff": True}),
}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x010F] = "A maker with a name of more than four letters"
    block[0x0112] = orientation
    block.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return block


def made(kind: str, **more) -> bytes:
    name, options = FORMATS[kind]
    return encode(IMAGE.convert("L") if kind.startswith("gray") else IMAGE, name, **options, **more)


def pixels(data: bytes) -> np.ndarray:
    return SourceImage.from_bytes(data).pixels()


def check_as_pillow(data: bytes) -> None:
    source = SourceImage.from_bytes(data)
    expected = shown_by_pillow(data)
    assert (source.height, source.width) == expected.shape[:2]
    np.testing.assert_array_equal(source.pixels(), expected)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 0, 9])
@pytest.mark.parametrize("kind", FORMATS)
def test_orientation_in_exif(kind, orientation):
    try:
        data = made(kind, exif=exif(orientation))
    except RuntimeError:
        pytest.skip("libtiff does not write it")
    check_as_pillow(data)
    turned = orientation in (5, 6, 7, 8)
    assert pixels(data).shape == ((40, 24, 3) if turned else (24, 40, 3))


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["jpeg", "lossy webp"])
def test_orientation_in_xmp(kind, orientation):
    data = made(kind, xmp=XMP % orientation)
    check_as_pillow(data)
    assert pixels(data).shape == ((40, 24, 3) if orientation == 6 else (24, 40, 3))
    check_as_pillow(made(kind, xmp=XMP % orientation, exif=exif(8)))  # Exif first


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("profile", [False, True])
def test_orientation_in_a_text_of_a_png(compressed, profile):
    texts = PngImagePlugin.PngInfo()
    block = exif(6).tobytes()
    if profile:  # as ImageMagick wrote it
        texts.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=compressed)
    else:
        texts.add_itxt("XML:com.adobe.xmp", (XMP % 6).decode(), zip=compressed)
    data = made("png", pnginfo=texts)
    assert pixels(data).shape == (40, 24, 3)
    check_as_pillow(data)


def test_orientation_behind_the_pixels_of_a_png():
    data, _ = random_png(8, 2, after=chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")))
    assert pixels(data).shape == (13, 9, 3)
    check_as_pillow(data)


def test_orientation_in_the_xmp_of_a_tiff():
    """Pillow swaps its sides only once it has read the pixels."""
    levels = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
    source = SourceImage.from_bytes(gray_tiff(levels, 8, tag_700=(1, list(XMP % 6))))
    assert (source.height, source.width) == (8, 6)
    np.testing.assert_array_equal(source.pixels()[..., 0], np.rot90(levels, -1))


def test_a_crop_of_a_turned_image():
    for kind in ("png", "lossless webp", "tiff"):
        source = SourceImage.from_bytes(made(kind, exif=exif(6)))
        whole = source.pixels()
        np.testing.assert_array_equal(source.crops([(3, 2, 8, 8)], [8])[0], whole[3:11, 2:10])


TEXT = b"A key\0"
BAD_CHUNKS = {
    "long text": chunk(b"tEXt", TEXT + b"x" * 2**21),
    "long compressed text": chunk(b"zTXt", TEXT + b"\0" + zlib.compress(bytes(2**24))),
    "long international text": chunk(b"iTXt", TEXT + b"\1\0\0\0" + zlib.compress(bytes(2**24))),
    "long description": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**24))),
    "many texts": chunk(b"zTXt", TEXT + b"\0" + zlib.compress(bytes(2**20 - 1))) * 65,
    "long colour profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2**24))),
    "unknown compression": chunk(b"zTXt", TEXT + b"\7" + zlib.compress(b"x")) + chunk(b"iCCP", b"name\0\7x"),
    "empty profile": chunk(b"iCCP", b""),
    "short chunks": b"".join(
        chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"acTL", b"fcTL", b"tRNS")
    ),
    "frames out of order": chunk(b"acTL", struct.pack(">2I", 2, 0))
    + chunk(b"fcTL", struct.pack(">5I", 7, 9, 9, 9, 9) * 2),
    "bad checksums": b"".join(
        chunk(kind, b"x" * 40, 1) for kind in (b"tEXt", b"iCCP", b"gAMA", b"eXIf", b"teSt", b"acTL", b"PLTE", b"tIME")
    ),
    "bad checksum of a transparent colour": chunk(b"tRNS", bytes(6), 1),
    "no exif": chunk(b"eXIf", b"MM\0*") + chunk(b"eXIf", b""),
    "no exif in a text": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyzt"),
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks_of_a_png(name):
    plain, _ = random_png(8, 2)
    for data in (random_png(8, 2, BAD_CHUNKS[name])[0], random_png(8, 2, after=BAD_CHUNKS[name])[0]):
        np.testing.assert_array_equal(pixels(data), pixels(plain))
        if "PLTE" not in name:
            assert len(strip(data).data) <= len(plain)


def test_a_bad_checksum_where_pixels_depend_on_it():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0), 1)
    with pytest.raises(UnreadableImageError, match=r"^not an image$"):
        pixels(PNG_SIGNATURE + header + chunk(b"IDAT", zlib.compress(bytes(52))) + chunk(b"IEND", b""))
    palette = chunk(b"PLTE", bytes(768), 1)
    with pytest.raises(UnreadableImageError, match=r"^not an image$"):
        pixels(random_png(8, 3, palette)[0])
    data, _ = random_png(8, 2)
    place = data.rindex(b"IEND") - 12  # the last of the compressed data: its own checksum
    with pytest.raises(UnreadableImageError, match=r"^truncated or damaged$"):
        pixels(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_a_png_cut_off_in_a_text_or_followed_by_something():
    data, samples = random_png(8, 2, after=chunk(b"tEXt", TEXT + bytes(100)))
    for whole in (data[:-60], data[:-11], data[:-12] + b"\1\2\3\4\5\6\7\7garbage", data + b"PK\3\4 an archive"):
        np.testing.assert_array_equal(pixels(whole), samples)


SEGMENTS = {
    "short JFIF": b"\xff\xe0\0\x07JFIF\0",
    "short Adobe": b"\xff\xee\0\x07Adobe",
    "short profile": b"\xff\xe2\0\x0eICC_PROFILE\0",
    "short Photoshop": b"\xff\xed\0\x16Photoshop 3.0\x008BIM\0\0",
    "no MPO": b"\xff\xe2\0\x10MPF\0II*\0\xff\0\0\0\0\0",
    "comment": b"\xff\xfe\0\2",
    "fill bytes": b"\xff\xff\xff\xff\xfe\0\2",
}


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg"])
def test_bad_segments_of_a_jpeg(name, kind):
    data = made(kind, exif=exif(6))
    np.testing.assert_array_equal(pixels(data[:2] + SEGMENTS[name] + data[2:]), pixels(data))


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_colours_of_a_jpeg_are_not_lost_with_its_metadata(mode):
    data = bytearray(encode(IMAGE.convert(mode), "JPEG", quality=95, keep_rgb=mode == "RGB"))
    assert b"Adobe" in data
    check_as_pillow(bytes(data))
    if mode == "RGB":  # under the names of other colours, so that only Adobe's segment tells
        frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
        for i in range(3):
            data[frame + 10 + 3 * i] = data[scan + 5 + 2 * i] = i + 1
        check_as_pillow(bytes(data))
        assert np.abs(pixels(bytes(data)) - np.asarray(IMAGE).astype(float)).mean() < 4


def test_a_webp_whose_last_metadata_is_cut_off():
    data = made("lossy webp", exif=exif(1))
    np.testing.assert_array_equal(pixels(data[:-30]), pixels(data))
    with pytest.raises(UnreadableImageError):
        pixels(data[: data.index(b"EXIF") - 30])


DAMAGED = ["jpeg", "mpo", "png", "lossy webp", "lossless webp", "tiff", "lzw tiff", "tiff of two pages"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_exif_never_makes_an_image_unreadable(kind):
    upright, tagged = made(kind), made(kind, exif=exif(6))
    views = [pixels(upright)]
    views += [np.asarray(Image.fromarray(views[0]).transpose(method)) for method in Image.Transpose]
    block = exif(6).tobytes()
    rng = np.random.default_rng(0)
    for i in range(60):
        damaged = bytearray(block[: rng.integers(6, len(block))] if i % 2 else block)
        for place in rng.integers(6, len(damaged) + 1, 6):
            damaged[place : place + 1] = [rng.choice([0, 1, 255, rng.integers(256)])]
        if "tiff" in kind:
            data = bytearray(tagged)
            # What such a block holds are fields among the others.
            (directory,) = struct.unpack_from("<I", data, 4)
            for place in range(directory + 2, directory + 2 + 12 * data[directory], 12):
                if struct.unpack_from("<H", data, place)[0] in (0x8769, 0x010F, 0x0112):
                    start = place + int(rng.choice([2, 4, 8]))  # type, number or value
                    data[start : place + 12] = rng.bytes(place + 12 - start)
        elif kind == "png":
            data = upright[:33] + chunk(b"eXIf", bytes(damaged)) + upright[33:]
        else:
            data = made(kind, exif=bytes(damaged))
        source = SourceImage.from_bytes(bytes(data))
        found = source.pixels()
        assert found.shape == (source.height, source.width, 3)
        assert any(np.array_equal(found, view) for view in views)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "field",
    [
        {"tag_700": (3, [1])},  # XMP
        {"tag_282": (2, [65, 66, 0]), "tag_296": (3, [3])},  # resolution
        {"tag_296": (3, [2]), "tag_283": (4, [0])},
        {"tag_34675": (3, [1])},  # colour profile
        {"tag_34665": (4, [2**31]), "tag_34853": (2, [65, 0])},  # Exif and GPS
        {"tag_274": (3, [6, 6, 6])},
        {"tag_274": (2, [65, 66, 67, 68, 69, 0])},
        {"tag_33723": (4, [1, 2, 3]), "tag_34377": (3, [1])},
    ],
)
def test_bad_fields_of_a_tiff(field):
    levels = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(gray_tiff(levels, 8, **field))[..., 0], levels)


def test_a_tiff_directory_that_is_longer_than_its_file():
    levels = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
    data = bytearray(gray_tiff(levels, 8, tag_274=(3, [6])))
    data[int.from_bytes(data[4:8], "little")] += 200  # of the number of its entries
    source = SourceImage.from_bytes(bytes(data))
    np.testing.assert_array_equal(source.pixels()[..., 0], np.rot90(levels, -1))
    assert (source.height, source.width) == (8, 6)


def test_nothing_is_copied_of_a_png_without_metadata():
    data, _ = random_png(8, 2)
    assert strip(data).data is data
    assert io.BytesIO(data).getbuffer() == data
    assert strip(png(np.zeros((1, 1, 1), int), 8, 0)).orientation == 1
