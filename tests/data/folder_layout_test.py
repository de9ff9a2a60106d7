"""Which image is in which part and class; the questions that a folder raises; what is told of what was left out."""

import os

import numpy as np
import pytest
from folder_files import link, touch

from care_jax.data import DataError
from care_jax.data.folder_layout import HELD_OUT, find_layout


def find(root, fraction=HELD_OUT):
    return find_layout(str(root), fraction)


def held(part):
    return list(part.listing.names)


def everything(layout):
    return sorted(held(layout.train) + held(layout.test))


def refused(root, fraction=0.5):
    with pytest.raises(DataError) as caught:
        find(root, fraction)
    assert str(caught.value).isprintable()
    return str(caught.value)


IMAGES = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


def split(root, *parts):
    touch(root, *(f"{part}/{image}" for part in parts for image in ("cat/0.png", "dog/0.png")))


# Links


@pytest.mark.parametrize("links", [["a/loop"], ["a/loop", "a/loop2"], ["a/loop", "b/loop"], ["loop"], ["a/up", "b/up"]])
def test_a_folder_of_loops_is_what_it_is_without_them(tmp_path, links):
    touch(tmp_path, *IMAGES)
    for name in links:
        link(tmp_path, name, tmp_path if "/" not in name or name.endswith("up") else tmp_path / name.split("/")[0])
    layout = find(tmp_path, 0.5)
    assert everything(layout) == IMAGES
    assert layout.classes == ["a", "b"]
    what = (
        "name of a file or folder that has another"
        if len(links) == 1
        else "names of files and folders that have others"
    )
    assert layout.notes == [f"passed over {len(links)} {what} ({', '.join(links)})"]


def test_a_flat_folder_that_links_to_itself(tmp_path):
    touch(tmp_path, "0.png", "1.png")
    link(tmp_path, "loop", ".")
    layout = find(tmp_path)
    assert everything(layout) == ["0.png", "1.png"]
    assert layout.notes == ["passed over 1 name of a file or folder that has another (loop)"]


@pytest.mark.parametrize("make", [os.symlink, os.link])
@pytest.mark.parametrize("place", ["a", ""])
def test_each_real_file_once(tmp_path, make, place):
    touch(tmp_path / place, "1.png", "4.png")
    touch(tmp_path, *(["b/7.png"] if place else []))
    for name in ("0", "2", "3"):
        make(tmp_path / place / "1.png", tmp_path / place / f"{name}.png")
    layout = find(tmp_path)
    assert [os.path.basename(name) for name in everything(layout)] == ["0.png", "4.png", *(["7.png"] if place else [])]
    assert len(layout.train.labels.get("class", [])) == (len(layout.train.listing) if place else 0)
    assert "passed over 3 names of files" in layout.notes[-1]


@pytest.mark.parametrize("make", [os.symlink, os.link])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/0.png", "b/9.png"),
        ("a/deep/0.png", "b/other/9.jpg"),
        ("train/0.png", "test/9.png"),
        ("train/cat/0.png", "test/cat/0.png"),
        ("train/cat/0.png", "train/dog/9.png"),
        ("test/cat/0.png", "test/dog/9.png"),
    ],
)
def test_a_file_in_two_places_is_refused_naming_both(tmp_path, make, first, second):
    if first.count("/") == 2 and not first.startswith("a"):
        split(tmp_path, "train", "test")
        (tmp_path / second).unlink(missing_ok=True)
    else:
        touch(tmp_path, f"{first.split('/')[0]}/x.png", f"{second.split('/')[0]}/y.png")
    touch(tmp_path, first)
    (tmp_path / second).parent.mkdir(parents=True, exist_ok=True)
    make(tmp_path / first, tmp_path / second)
    assert refused(tmp_path).startswith(f"{first} and {second} in {tmp_path} are the same file, by links")


@pytest.mark.parametrize(
    ("name", "target", "told"),
    [
        ("c", "a", "a and c in .* are the same folder"),
        ("b/in", "../a", "a and b/in in .* are the same folder"),
        ("b/in", "../a/deep", "a/deep and b/in in .* are the same folder"),
    ],
)
def test_a_folder_in_two_classes_is_refused_naming_both(tmp_path, name, target, told):
    touch(tmp_path, *IMAGES, "a/deep/0.png")
    link(tmp_path, name, target)
    with pytest.raises(DataError, match=told):
        find(tmp_path)


def test_a_training_folder_that_is_the_test_folder_too(tmp_path):
    split(tmp_path, "train")
    link(tmp_path, "test", "train")
    assert "are the same folder: which one is meant?" in refused(tmp_path)
    (tmp_path / "test").unlink()
    link(tmp_path, "test/cat", tmp_path / "train" / "cat")
    assert "train/cat and test/cat in" in refused(tmp_path)


def test_files_without_inodes_are_not_taken_for_each_other(tmp_path, monkeypatch):
    touch(tmp_path, *IMAGES)
    look_up = "care_jax.data.folder_layout.look_up"
    monkeypatch.setattr(look_up, lambda root, names: (np.zeros(4, int), np.array([[7, 0]] * 4, np.uint64)))
    assert everything(find(tmp_path)) == IMAGES
    monkeypatch.setattr(look_up, lambda root, names: (np.zeros(4, int), np.array([[7, 2**64 - 1]] * 4, np.uint64)))
    assert "the same file" in refused(tmp_path)


def test_each_image_is_looked_at_once(tmp_path, monkeypatch):
    looked = []
    stat = os.stat
    for name in ("0.png", *IMAGES):
        touch(tmp_path / ("classes" if "/" in name else "flat"), name)
    touch(tmp_path / "flat", "1.png", "2.txt")
    for folder, names in (("flat", ["0.png", "1.png"]), ("classes", IMAGES)):
        looked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", lambda path, **named: looked.append(os.fspath(path)) or stat(path, **named))
            find(tmp_path / folder)
        assert sorted(path for path in looked if "." in os.path.basename(path)) == [
            str(tmp_path / folder / name) for name in names
        ]


# Classes without a test image


def test_classes_too_small_for_a_test_image_are_told(tmp_path):
    touch(tmp_path, *(f"{name:02d}/{image}.png" for name in range(20) for image in range(5)))
    layout = find(tmp_path)
    tested = set(layout.test.labels["class"].tolist())
    assert len(tested) == 10
    names = [name for label, name in enumerate(layout.classes) if label not in tested]
    assert layout.notes == [f"10 of 20 classes have no test image ({', '.join(names[:5])} and 5 more)"]
    assert find(tmp_path, 0.2).notes == []


def test_so_is_a_class_of_one_image_which_is_trained_on(tmp_path):
    touch(tmp_path, "a/0.png", *(f"b/{image}.png" for image in range(9)))
    layout = find(tmp_path, 0.5)
    assert "a/0.png" in held(layout.train)
    assert layout.notes == ["1 of 2 classes has no test image (a)"]


def test_so_are_those_that_a_test_folder_lacks(tmp_path):
    split(tmp_path, "train", "test")
    touch(tmp_path, "train/emu/0.png", "train/owl/0.png")
    assert find(tmp_path).notes == ["2 of 4 classes have no test image (emu, owl)"]


def test_images_without_classes_lack_none(tmp_path):
    touch(tmp_path, "0.png", "1.png")
    assert find(tmp_path).notes == []


# Splits


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "train_set"])
@pytest.mark.parametrize("test", ["test", "Testing", "val", "Valid", "VALIDATION", "eval", "val2017"])
def test_the_usual_names_of_a_split(tmp_path, train, test):
    split(tmp_path, train, test)
    layout = find(tmp_path)
    assert layout.classes == ["cat", "dog"]
    assert held(layout.train) == [f"{train}/cat/0.png", f"{train}/dog/0.png"]
    assert held(layout.test) == [f"{test}/cat/0.png", f"{test}/dog/0.png"]
    assert layout.test.labels["class"].tolist() == [0, 1]
    assert layout.notes == []


@pytest.mark.parametrize("unused", [["val"], ["Valid", "eval"]])
def test_of_test_and_validation_the_former_is_used_and_it_is_said(tmp_path, unused):
    split(tmp_path, "train", "Test", *unused)
    layout = find(tmp_path)
    assert {name.split("/")[0] for name in held(layout.test)} == {"Test"}
    assert len(layout.train.listing) == 2
    assert layout.notes == [f"tested on Test, while {', '.join(unused)} is not used"]


def test_a_share_to_hold_out_beside_a_test_folder_is_said_to_do_nothing(tmp_path):
    split(tmp_path, "train", "val")
    layout = find_layout(str(tmp_path), 0.3)
    assert layout.notes == ["test_fraction=0.3 holds nothing out, as val is the test set"]


def test_a_lone_training_folder_in_any_case(tmp_path):
    touch(tmp_path, *(f"Training/{name}" for name in IMAGES))
    layout = find(tmp_path, fraction=0.5)
    assert layout.classes == ["a", "b"]
    assert len(layout.test.listing) == 2


QUESTIONS = {
    "train beside a class": (["train", "bus"], "holds train beside bus: are these the parts of a split, or classes?"),
    "a split beside classes": (["Train", "val", "bus", "car"], "holds Train, val beside bus, car: are these the parts"),
    "a split beside a part": (["train", "test", "unlabelled"], "holds test, train beside unlabelled: are these the"),
    "valid and invalid": (["valid", "invalid"], "holds valid, but no train: which images are to be trained on?"),
    "a lone test": (["test"], "holds test, but no train: which images"),
    "test and validation": (["Testing", "val"], "holds Testing, but no train: which images"),
    "two to train on": (["train", "Training", "test"], "holds Training, train: which one is to be trained on?"),
    "two to test on": (["train", "test", "TEST"], "holds TEST, test: which one is to be tested on?"),
    "two to validate on": (["train", "val", "valid"], "holds val, valid: which one is to be tested on?"),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_folder_named_like_a_split_raises_a_question(tmp_path, case):
    folders, told = QUESTIONS[case]
    split(tmp_path, *folders)
    assert told in refused(tmp_path)


def test_a_root_one_level_too_high(tmp_path):
    split(tmp_path / "dataset", "train", "val")
    told = refused(tmp_path)
    assert told.startswith(f"{tmp_path / 'dataset'} holds train and val, which would be mixed")
    touch(tmp_path / "other", *(f"dataset/{name}" for name in IMAGES))
    layout = find(tmp_path / "other")
    assert layout.classes == []
    assert layout.notes == ["no classes, as all images are in one folder (dataset)"]


def test_classes_may_be_named_like_splits_inside_one(tmp_path):
    """CIFAR100 has a class of trains."""
    touch(tmp_path, *(f"{part}/{name}/0.png" for part in ("train", "test") for name in ("train", "bus")))
    assert find(tmp_path).classes == ["bus", "train"]


def test_what_lies_beside_a_split_is_told(tmp_path):
    split(tmp_path, "train", "test")
    touch(tmp_path, "preview.PNG", "labels.csv", "annotations/0.xml", "annotations/deep/1.xml")
    layout = find(tmp_path)
    assert len(layout.train.listing) == len(layout.test.listing) == 2
    assert layout.notes == ["ignored 4 files (.xml 2 in annotations, .csv 1, .png 1)"]


# What is no image


def test_the_rest_is_counted_by_extension_and_class(tmp_path):
    touch(tmp_path, *IMAGES, "readme.md", "a/x.txt", "a/deep/y.TXT", "b/z.txt", "b/w.heic")
    assert find(tmp_path, 0.5).notes == ["ignored 5 files (.txt 3 (a 2, b 1), .heic 1 in b, .md 1)"]
    (tmp_path / "c.txt").write_text("")
    assert find(tmp_path, 0.5).notes == ["ignored 6 files (.txt 4 (a 2, outside 1, b 1), .heic 1 in b, .md 1)"]


def test_a_class_that_links_to_nowhere_is_told(tmp_path):
    touch(tmp_path, *IMAGES)
    link(tmp_path, "c", "nowhere")
    assert find(tmp_path, 0.5).notes == ["ignored 1 file (links to nowhere 1)"]


def test_a_line_stays_a_line(tmp_path):
    touch(tmp_path, "0.png", "1.png", *(f"x.{i}" for i in range(40)))
    assert find(tmp_path).notes == ["ignored 40 files (.0 1, .1 1, .10 1, .11 1, .12 1 and 35 more)"]


def test_ignored_files_of_a_split(tmp_path):
    split(tmp_path, "train", "test")
    touch(tmp_path, "train/cat/x.heic", "test/x.txt")
    assert find(tmp_path).notes == ["ignored 2 files (.heic 1 in train/cat, .txt 1 in test)"]


@pytest.mark.parametrize("part", ["", "train/", "test/"])
def test_a_class_without_images_is_refused(tmp_path, part):
    touch(tmp_path, *(["train/a/0.png", "train/b/0.png", "test/a/0.png"] if part else IMAGES))
    touch(tmp_path, f"{part}heron/0.heic", f"{part}heron/deep/1.heic", f"{part}heron/x.txt")
    told = refused(tmp_path)
    assert told.startswith(f"{tmp_path}/{part}heron holds files but no image (.heic 2, .txt 1): convert them to one of")
    assert ".bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .tif, .tiff, .webp" in told


def test_beside_loose_images_a_folder_is_no_class(tmp_path):
    touch(tmp_path, "0.png", "1.png", "labels/0.txt")
    assert find(tmp_path).notes == ["ignored 1 file (.txt 1 in labels)"]


def test_an_empty_folder_is_no_class_and_it_is_said(tmp_path):
    touch(tmp_path, *IMAGES, "litter/.DS_Store", "@eaDir/a.txt")
    (tmp_path / "c").mkdir()
    layout = find(tmp_path, 0.5)
    assert layout.classes == ["a", "b"]
    assert layout.notes == ["passed over 2 empty folders (c, litter)"]


def test_a_folder_of_nothing_that_can_be_read_says_what_it_holds(tmp_path):
    touch(tmp_path, "a/0.heic", "a/1.heic", "b/2.avif", "x.txt")
    assert refused(tmp_path).endswith(f"in {tmp_path}, only .heic 2, .avif 1, .txt 1")


def test_names_that_a_terminal_would_obey(tmp_path):
    touch(tmp_path, "a\x1b[31m\n/0.png", "b/0.txt")
    assert r"holds files but no image" in refused(tmp_path)
    (tmp_path / "b" / "0.txt").unlink()
    os.link(tmp_path / "a\x1b[31m\n" / "0.png", tmp_path / "b" / "\udcff.png")
    assert r"a\x1b[31m /0.png and b/\udcff.png in" in refused(tmp_path)
