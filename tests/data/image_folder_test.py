"""Folders as data sets: layouts, order, what is held out, and what goes wrong."""

import errno
import os

import numpy as np
import pytest
from PIL import Image

from care_jax import data
from care_jax.data import DataError
from care_jax.data.decode import EXTENSIONS

FORMATS = {".png": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}


def write(path, value=0, size=(12, 10)):
    """An image of one gray value, by which it is told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = FORMATS.get(path.suffix.lower(), "JPEG")
    Image.new("RGB", size, (value,) * 3).save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))


def load(root, **arguments):
    return data.load("image_folder", root=root, **({"image_size": 4} | arguments))


def values(examples):
    return examples.images[:, 0, 0, 0].tolist()


def names(examples):
    return [examples.images.name(i).rpartition("/")[2] for i in range(len(examples))]


@pytest.fixture
def flat(tmp_path):
    for i in range(20):
        write(tmp_path / f"{i:02d}.png", i)
    return tmp_path


@pytest.fixture
def classes(tmp_path):
    for label, name in enumerate(["ant", "bee", "cat"]):
        for i in range(10):
            write(tmp_path / name / f"{i}.png", 10 * label + i)
    return tmp_path


def test_flat_folder_is_unlabelled(flat):
    folder = load(flat)
    assert folder.num_classes == {}
    assert folder.train.labels == folder.test.labels == {}
    assert values(folder.test) == [5, 15]  # the middles of two halves
    assert values(folder.train) == [i for i in range(20) if i not in (5, 15)]
    assert folder.pretrain is folder.train
    assert folder.train.images.shape == (18, 4, 4, 3)


def test_class_folders(classes):
    folder = load(classes, test_fraction=0.2)
    assert folder.num_classes == {"class": 3}
    assert folder.train.labels["class"].dtype == np.int32
    # The gray value says which image it is, and so its class.
    for examples in (folder.train, folder.test):
        assert [value // 10 for value in values(examples)] == examples.labels["class"].tolist()
    assert np.bincount(folder.test.labels["class"]).tolist() == [2, 2, 2]
    assert sorted(values(folder.train) + values(folder.test)) == list(range(30))


def test_both_forms_hold_the_same_images(classes):
    resident, encoded = load(classes), load(classes, resident=False, image_size=None)
    assert not encoded.train.resident
    for part in ("train", "test"):
        images = getattr(encoded, part).images
        colors = [np.asarray(Image.open(images.name(i)))[0, 0, 0] for i in range(len(images))]
        assert colors == values(getattr(resident, part))
        assert getattr(encoded, part).labels["class"].tolist() == getattr(resident, part).labels["class"].tolist()
    with open(encoded.train.images.name(3), "rb") as file:
        assert encoded.train.images.read(3) == file.read()


@pytest.mark.parametrize("test_folder", ["test", "val"])
def test_given_split(tmp_path, test_folder):
    for part, start in (("train", 0), (test_folder, 100)):
        for label, name in enumerate(["x", "y"]):
            for i in range(3):
                write(tmp_path / part / name / f"{i}.jpg", start + 10 * label + i)
    folder = load(tmp_path)
    assert folder.num_classes == {"class": 2}
    assert values(folder.train) == [0, 1, 2, 10, 11, 12]
    assert values(folder.test) == [100, 101, 102, 110, 111, 112]
    assert folder.test.labels["class"].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_test_set_may_lack_classes(tmp_path):
    for name in ("train/a/0.png", "train/b/0.png", "train/b/1.png", "test/b/0.png"):
        write(tmp_path / name)
    folder = load(tmp_path)
    assert folder.test.labels["class"].tolist() == [1]
    assert folder.num_classes == {"class": 2}


def test_flat_given_split(tmp_path):
    for name in ("train/0.png", "train/1.png", "test/0.png"):
        write(tmp_path / name)
    folder = load(tmp_path)
    assert (len(folder.train), len(folder.test), folder.num_classes) == (2, 1, {})


def test_a_lone_train_folder_is_split(tmp_path):
    for i in range(4):
        write(tmp_path / "train" / f"{i}.png", i)
    folder = load(tmp_path)
    assert (values(folder.train), values(folder.test)) == ([0, 1, 3], [2])


@pytest.mark.parametrize("resident", [True, False])
def test_every_format_is_read(tmp_path, resident):
    for i, end in enumerate(EXTENSIONS):
        write(tmp_path / "a" / f"{i}{end}", 20 * i)
        write(tmp_path / "b" / f"{i}{end.upper()}", 20 * i)
    folder = load(tmp_path, resident=resident)
    assert len(folder.train) + len(folder.test) == 2 * len(EXTENSIONS)
    assert len(folder.skipped) == 0 and folder.notes == []
    if resident:
        assert sorted(values(folder.train) + values(folder.test)) == sorted(
            [20 * i for i in range(len(EXTENSIONS))] * 2
        )


def test_what_was_loaded_and_what_was_not_is_told(classes):
    (classes / "readme.txt").write_text("text")
    (classes / "bee" / "x.heic").write_text("no image")
    told = "27 training and 3 test images in 3 classes (ant, bee, cat); ignored 2 files (.heic 1 in bee, .txt 1)"
    assert load(classes).description() == load(classes, resident=False).description() == told


@pytest.mark.parametrize("resident", [True, False])
def test_data_of_12_bits_in_16_is_told(tmp_path, resident):
    for i, top in enumerate([4095] * 39 + [3000, 65535, 2**14]):
        Image.fromarray(np.linspace(0, top, 100).astype(np.uint16).reshape(10, 10)).save(tmp_path / f"{i:02d}.png")
    write(tmp_path / "black.png", 0)  # of 8 bits
    assert load(tmp_path, resident=resident).notes == [
        "40 of 43 images looked at have 16 bits and reach at most level 4095 of 65535: they are dark, at most 17 of "
        "256 levels are left of them; rescale them"
    ]


def test_16_bits_that_are_used_are_not(flat):
    for i in range(3):
        Image.fromarray(np.full((10, 10), 2**14, np.uint16)).save(flat / f"deep{i}.png")
    assert load(flat).notes == []


def test_a_flat_folder_is_told_as_such(flat):
    assert load(flat).description() == "18 training and 2 test images, unlabelled"


def test_a_class_may_be_called_train_inside_a_split(tmp_path):
    for name in ("train/train/0.png", "train/bus/0.png", "test/train/0.png"):
        write(tmp_path / name)
    assert load(tmp_path).class_names == {"class": ["bus", "train"]}


def test_a_single_class_is_no_label(tmp_path):
    for i in range(3):
        write(tmp_path / "all" / f"{i}.png", i)
    folder = load(tmp_path)
    assert folder.num_classes == {}
    assert sorted(values(folder.train) + values(folder.test)) == [0, 1, 2]


def test_what_counts_as_an_image(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.JpG", "sub/ignored.txt.png"):
        write(tmp_path / ("x" if "/" not in name else "y") / name)
    write(tmp_path / "x" / "deep" / "er" / "d.png")
    write(tmp_path / "x" / ".hidden.png")
    write(tmp_path / ".cache" / "e.png")
    (tmp_path / "x" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("nor this")
    (tmp_path / "empty").mkdir()
    folder = load(tmp_path, resident=False)
    found = names(folder.train) + names(folder.test)
    assert sorted(found) == ["a.jpeg", "b.PNG", "c.JpG", "d.png", "ignored.txt.png"]
    assert folder.num_classes == {"class": 2}


def test_shorter_side_is_resized_and_the_centre_kept(tmp_path):
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 255  # the central square
    for i in range(2):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    assert (load(tmp_path, image_size=10).train.images == 255).all()


def test_fractions(flat):
    assert len(load(flat, test_fraction=0.5).test) == 10
    assert len(load(flat, test_fraction=0.001).test) == 1
    assert len(load(flat, test_fraction=0.999).train) == 1
    for fraction in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match="test_fraction"):
            load(flat, test_fraction=fraction)


def test_a_class_is_never_held_out_whole(tmp_path):
    for name, count in (("a", 1), ("b", 1), ("c", 9), ("d", 1)):
        for i in range(count):
            write(tmp_path / name / f"{i}.png")
    folder = load(tmp_path, test_fraction=0.4)
    assert set(folder.train.labels["class"]) == {0, 1, 2, 3}
    assert len(folder.test) >= 1


@pytest.mark.parametrize("resident", [True, False])
def test_broken_files_are_skipped_and_counted(classes, resident):
    (classes / "ant" / "0.png").write_bytes((classes / "ant" / "1.png").read_bytes()[:50])
    (classes / "bee" / "4.png").write_text("text")
    (classes / "cat" / "9.png").write_bytes(b"")
    folder = load(classes, resident=resident, test_fraction=0.2)
    assert len(folder.skipped) == 3
    assert {path.rpartition("/")[2] for path in folder.skipped.reasons} == {"0.png", "4.png", "9.png"}
    assert sorted(folder.skipped.reasons.values()) == ["empty file", "not an image", "truncated or damaged"]
    if resident:
        assert len(folder.train) + len(folder.test) == 27
        for examples in (folder.train, folder.test):
            assert [value // 10 for value in values(examples)] == examples.labels["class"].tolist()
    else:
        assert len(folder.train) + len(folder.test) == 30  # found broken, replaced when a batch needs them


@pytest.mark.parametrize("resident", [True, False])
def test_more_than_half_broken_is_an_error(flat, resident):
    for i in range(10):
        (flat / f"{i:02d}.png").write_text("text")
    load(flat, resident=resident)  # just half is not
    (flat / "10.png").write_text("text")
    with pytest.raises(DataError, match=r"11 of 20 image files in .* cannot be decoded"):
        load(flat, resident=resident)


def test_no_test_image_left(flat):
    for name in ("05.png", "15.png"):
        (flat / name).write_text("text")
    with pytest.raises(DataError, match=r"test set .* \(2 not an image\)"):
        load(flat)


def test_unreadable_file(flat):
    (flat / "03.png").unlink()
    (flat / "03.png").mkdir()  # a folder by the name of an image isn't one
    write(flat / "03.png" / "x.txt")
    assert len(load(flat).train) == 17
    (flat / "04.png").unlink()
    (flat / "04.png").symlink_to(flat / "nowhere.png")
    assert len(load(flat).train) + len(load(flat).test) == 18


ERRORS = {
    "missing": ([], "no folder .*nowhere"),
    "file": (["file"], "is a file"),
    "empty": (["sub/"], r"no images \(.bmp, .*, .webp\) in"),
    "single": (["a.png"], "single image"),
    "mixed": (["a.png", "x/b.png"], "both images and folders of images"),
    "unknown class": (["train/a/0.png", "train/b/0.png", "test/c/0.png"], "train lacks: c"),
    "flat test": (["train/a/0.png", "train/b/0.png", "test/0.png"], "train has class folders.*test has not"),
    "flat train": (["train/0.png", "test/a/0.png", "test/b/0.png"], "test has class folders.*train has not"),
    "empty test": (["train/0.png", "test/"], "no images .* in .*test"),
    "singles": (["a/0.png", "b/0.png"], "no class of .* has two images"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_clear_line(tmp_path, case):
    files, told = ERRORS[case]
    root = tmp_path / "nowhere" if case == "missing" else tmp_path
    for name in files:
        if name.endswith("/"):
            (tmp_path / name).mkdir(parents=True)
        elif name == "file":
            root = tmp_path / name
            root.write_text("x")
        else:
            write(tmp_path / name)
    with pytest.raises(DataError, match=told) as caught:
        load(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("root", "arguments", "told"),
    [
        (None, {}, "needs root, the folder that holds the images: --config.data.root=FOLDER"),
        ("", {}, "needs root"),
        ("anywhere", {"image_size": None}, "image_size >= 1"),
        ("anywhere", {"test_fraction": float("nan")}, "test_fraction"),
        ("a\0b", {}, r"a\\x00b can't be the name of a folder: embedded null byte"),
        ("\ud800", {}, r"\\ud800 can't be the name of a folder"),
        ("x" * 300, {}, "can't look into x*: File name too long"),
        ("gs://bucket/images", {}, "no folder gs://bucket/images"),
        (__file__ + "/x", {}, "can't look into .*: Not a directory"),
    ],
)
def test_arguments_that_no_folder_has_are_one_line(root, arguments, told):
    with pytest.raises(DataError, match=told) as caught:
        load(root, **arguments)
    assert str(caught.value).isprintable()


def test_a_root_that_links_to_itself(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"can't look into .*loop: Too many levels of symbolic links"):
        load(tmp_path / "loop")


def test_more_pixels_than_memory(classes):
    with pytest.raises(DataError, match="27 images of 2000000000 x 2000000000 pixels do not fit"):
        load(classes, image_size=2_000_000_000)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_what_cannot_be_looked_at_is_not_passed_over(classes, monkeypatch, code, call):
    """A permission missing, or a server that does not answer: which images there are is not known."""
    original = getattr(os, call)
    blamed = str(classes / "bee" / "3.png" if call == "stat" else classes / "bee")

    def failing(path, **named):
        if os.fspath(path) == blamed:
            raise OSError(code, os.strerror(code), blamed)
        return original(path, **named)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(DataError, match=f"can't look into {blamed}: {os.strerror(code)}"):
        load(classes)


def test_a_folder_that_vanishes_meanwhile(classes, monkeypatch):
    scandir = os.scandir

    def vanishing(path):
        if os.fspath(path).endswith("bee"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    with pytest.raises(DataError, match="bee vanished while it was looked into: start again"):
        load(classes)
