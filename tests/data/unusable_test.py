"""Arrays and files that no run could use: refused by name and value, or skipped, in bounded memory."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from care_jax import data
from care_jax.augment import AugmentSpec, ViewPlan
from care_jax.data import DataError, DataSet, Examples, SkippedFiles, decode
from care_jax.data.decode import SourceImage, UnreadableImageError
from care_jax.data.files import list_files
from care_jax.data.image_folder import FolderImages

IMAGES = np.zeros((4, 6, 5, 3), np.uint8)
LABELS = np.array([0, 1, 0, 1], np.int32)


def refused(function, *arguments, **named):
    with pytest.raises(DataError) as caught:
        function(*arguments, **named)
    assert str(caught.value).isprintable()  # so it is one line
    return str(caught.value)


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_that_are_no_numbers(value, shown, dtype):
    images = np.zeros(IMAGES.shape, dtype)
    images[2, 5, 1, 0] = images[3, 0, 0, 0] = value
    assert refused(Examples, images) == f"images must be finite; images[2, 5, 1, 0] is {shown}"


@pytest.mark.parametrize(
    ("images", "shown"),
    [
        (IMAGES / 255, "got float64 [4, 6, 5, 3]"),
        (IMAGES.astype(np.int64), "got int64 [4, 6, 5, 3]"),
        (IMAGES[..., :1], "got uint8 [4, 6, 5, 1]"),
        (IMAGES[0], "got uint8 [6, 5, 3]"),
        (IMAGES[:, :0], "got uint8 [4, 0, 5, 3]"),
        (IMAGES[:, :, :0], "got uint8 [4, 6, 0, 3]"),
        (np.array(0, np.uint8), "got uint8 []"),
        (np.full((1, 2, 2, 3), None), "got object [1, 2, 2, 3]"),
    ],
)
def test_images_of_another_type_or_shape(images, shown):
    assert refused(Examples, images) == f"images must be uint8 [n, h, w, 3] with h and w above 0, {shown}"


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS[:3], "must be int32 [4], one an image; got shape [3]"),
        (np.zeros(5, np.int32), "must be int32 [4], one an image; got shape [5]"),
        (LABELS[:, None], "got shape [4, 1]"),
        ([0, 1, 0, 1], "must be an int32 array [4]; got list"),
        (np.array([0.5, 1, 0, 1]), "must be int32 [4]; got float64, 'digit'[0] is 0.5"),
        (np.array([np.nan, 1, 0, 1], np.float32), "got float32, 'digit'[0] is nan"),
        (LABELS.astype(np.int64), "got int64, 'digit'[0] is 0"),
    ],
)
def test_labels_that_do_not_go_with_the_images(labels, told):
    message = refused(Examples, IMAGES, {"digit": labels})
    assert message.startswith("labels 'digit' must be")
    assert told in message


@pytest.mark.parametrize("part", ["pretrain", "train", "test"])
@pytest.mark.parametrize(("value", "allowed"), [(-1, "in [0, 2)"), (2, "in [0, 2)"), (2**31 - 1, "in [0, 2)")])
def test_labels_out_of_range(part, value, allowed):
    labels = LABELS.copy()
    labels[1:3] = value
    fine, wrong = Examples(IMAGES, {"digit": LABELS}), Examples(IMAGES, {"digit": labels})
    parts = {"pretrain": fine, "train": fine, "test": fine} | {part: wrong}
    told = refused(DataSet, "tiny", **parts, num_classes={"digit": 2})
    assert told == f"labels 'digit' of the {part} part of tiny must be {allowed}; 'digit'[1] is {value}"


def test_labels_whose_classes_are_not_counted():
    below = Examples(IMAGES, {"digit": LABELS - 1})
    assert "must be at least 0; 'digit'[0] is -1" in refused(DataSet, "tiny", below, below, below, {})
    fine = Examples(IMAGES, {"digit": LABELS + 1000})
    DataSet("tiny", fine, fine, fine, {})


def test_parts_that_lack_images_or_labels():
    with_labels, without, none = Examples(IMAGES, {"digit": LABELS}), Examples(IMAGES), Examples(IMAGES[:0])
    assert "test part of tiny holds no images" in refused(DataSet, "tiny", without, without, none, {})
    told = refused(DataSet, "tiny", with_labels, with_labels, without, {"digit": 2})
    assert told == "the test part of tiny has no labels 'digit'"
    DataSet("tiny", without, with_labels, with_labels, {"digit": 2})  # pre-training needs none


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, rows=b""):
    """A PNG, black and white of one bit a pixel."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def huge_png():
    """30,000 x 30,000 pixels, whole and valid, in some hundred kB."""
    side = 30_000
    compress = zlib.compressobj(1)
    row = bytes(1 + -(-side // 8))
    return png(side, side, b"".join(compress.compress(row) for _ in range(side)) + compress.flush())


def jpeg(width, height):
    """A JPEG that says it is this large, followed by the pixels of a small one."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    encoded = bytearray(buffer.getvalue())
    start = encoded.index(b"\xff\xc0") + 5  # the frame's header: marker, length, precision, then the size
    encoded[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(encoded)


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 0), (0, 0), (2**31 - 1, 1), (2**32 - 1, 2**32 - 1)])
def test_headers_that_no_image_can_have(width, height):
    with pytest.raises(UnreadableImageError, match=r"^(not an image|truncated or damaged|more than [\d,]+ pixels)$"):
        SourceImage.from_bytes(png(width, height, zlib.compress(b""))).pixels()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 0), (65_535, 65_535), (65_500, 1400)])
def test_jpeg_headers(width, height):
    with pytest.raises(UnreadableImageError, match=r"^(not an image|truncated or damaged|more than [\d,]+ pixels)$"):
        SourceImage.from_bytes(jpeg(width, height)).pixels()


def test_every_way_of_cutting_a_file_off():
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer, kind)
        whole = buffer.getvalue()
        for length in range(0, len(whole) - 20, 7):
            with pytest.raises(UnreadableImageError):
                SourceImage.from_bytes(whole[:length]).pixels()


@pytest.fixture
def no_memory(monkeypatch):
    """`no_memory("opening")` or "decoding": there is none for it from then on."""

    def set_up(when):
        def wanting(*arguments):
            raise MemoryError

        monkeypatch.setattr(decode, {"opening": "_open", "decoding": "_load"}[when], wanting)

    return set_up


@pytest.mark.parametrize("when", ["opening", "decoding"])
def test_want_of_memory_is_no_fault_of_the_file(no_memory, tmp_path, when):
    root = folder_with(tmp_path, {})
    examples = Examples(FolderImages(list_files(root, sorted(os.listdir(root)))))
    spec = AugmentSpec(size=4, mean=(0.5,) * 3, std=(0.2,) * 3)
    plan = ViewPlan(spec, spec, seed=0, batch_size=4, equivariance_batch_size=0, num_groups=1)
    no_memory(when)
    skipped = SkippedFiles()
    for resident in (True, False):
        told = refused(data.load, "image_folder", root=root, image_size=4, resident=resident)
        assert told == "image_folder at image_size 4 does not fit into memory: choose a smaller one"
    with pytest.raises(MemoryError):
        list(data.batches_in_order(examples, side=4, batch_size=4, skipped=skipped))
    for placement in ("decode", "host"):
        with pytest.raises(MemoryError):  # not as the text of one of TensorFlow's
            list(data.host_batches(examples, plan, placement=placement, start_step=0, num_steps=9, skipped=skipped))
    assert not len(skipped)


def peak():
    """The most memory this process has held, MiB, since `forget_peak`."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def forget_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pytest.skip("the peak of a process's memory can't be reset here")


def folder_with(path, files):
    for i in range(12):
        Image.new("RGB", (8, 8), (i, i, i)).save(path / f"{i:02d}.png")
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_images_take_no_memory(tmp_path, huge_png):
    assert len(huge_png) < 2**20
    # Decoded, the first takes 0.9 GB and 2.7 as RGB, the second 12.9.
    files = {"x.png": huge_png, "y.jpg": jpeg(65_535, 65_535), "z.png": png(2**31 - 1, 2**31 - 1, b"")}
    root = folder_with(tmp_path, files)
    spec = AugmentSpec(size=4, mean=(0.5,) * 3, std=(0.2,) * 3)

    def encoded(names, skipped):
        examples = Examples(FolderImages(list_files(root, names)))
        plan = ViewPlan(spec, spec, seed=0, batch_size=len(names), equivariance_batch_size=0, num_groups=1)
        arguments = {"num_threads": 2, "skipped": skipped}
        list(data.host_batches(examples, plan, placement="decode", start_step=0, num_steps=1, **arguments))
        list(data.batches_in_order(examples, side=4, batch_size=4, **arguments))

    names = sorted(os.listdir(root))
    encoded([name for name in names if name not in files], SkippedFiles())  # what starting up takes is not counted
    forget_peak()
    before = peak()
    skipped = SkippedFiles()
    encoded(names, skipped)
    folders = [data.load("image_folder", root=root, image_size=4, resident=resident) for resident in (True, False)]
    assert peak() - before < 150
    for seen in (skipped, *(folder.skipped for folder in folders)):
        assert {os.path.basename(path) for path in seen.reasons} == set(files)
        assert all("pixels" in reason or reason == "not an image" for reason in seen.reasons.values())
