"""What lies below a folder: order, links and loops, what is no image."""

import doctest
import inspect
import os
import sys

import pytest
from folder_files import link, touch

from care_jax.data import DataError, folder_tree
from care_jax.data.decode import EXTENSIONS
from care_jax.data.folder_tree import Tree, split_kind


def test_examples():
    assert doctest.testmod(folder_tree).failed == 0


def test_order_is_that_of_os_walk(tmp_path):
    """The batch of a step is a function of (seed, step) while index i means the same file."""
    touch(tmp_path, *(f"a/{name}" for name in ("10.png", "9.png", "Z.JPG", "é.jpeg", "-.png", "_.webp")))
    touch(tmp_path, "a/b/0.png", "a/b.c/0.png", "a/B/c/1.png", "a/B/0.png", "a/b/c/d/2.png")
    link(tmp_path, "a/nowhere.png", "none")
    expected = []
    for parent, folders, names in os.walk(tmp_path / "a"):
        folders.sort()
        expected += [os.path.relpath(os.path.join(parent, name), tmp_path) for name in sorted(names)]
    assert len(expected) == 12
    assert Tree(str(tmp_path)).below("a").images == expected


def test_every_extension_in_any_case(tmp_path):
    names = [f"a/{i}{change(end)}" for i, end in enumerate(EXTENSIONS) for change in (str.lower, str.upper)]
    touch(tmp_path, *names, "a/x.txt", "a/x.TXT", "a/none", "a/png", "a/x.png.bak")
    found = Tree(str(tmp_path)).below("a")
    assert sorted(found.images) == sorted(names)
    assert found.ignored == {".txt": 2, "no extension": 2, ".bak": 1}


def test_litter_is_no_folder_and_no_file(tmp_path):
    files = [".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini", "Desktop.ini", "._x.png", ".gitkeep"]
    folders = ["@eaDir", "__MACOSX", ".ipynb_checkpoints", ".git", "lost+found", "$RECYCLE.BIN"]
    for place in ("", "a/", "a/deep/"):
        touch(tmp_path, *(place + name for name in files), *(f"{place}{name}/x.png" for name in folders))
    touch(tmp_path, "a/0.png")
    tree = Tree(str(tmp_path))
    assert tree.top("") == ([], {}, ["a"])
    assert tree.below("a") == (["a/0.png"], {}, [])


def test_a_hidden_image_is_counted(tmp_path):
    touch(tmp_path, "a/.hidden.png", "a/.cache/x.png")
    assert Tree(str(tmp_path)).below("a") == ([], {"hidden": 1}, [])


def test_names_of_any_bytes(tmp_path):
    raw = os.fsencode(tmp_path / "a") + b"/\xff\x1b[31m\n.png"
    (tmp_path / "a").mkdir()
    open(raw, "wb").close()
    assert Tree(str(tmp_path)).below("a").images == ["a/\udcff\x1b[31m\n.png"]


@pytest.mark.parametrize("links", [["loop"], ["loop", "again"], ["loop", "x/again", "x/y/third"]])
@pytest.mark.parametrize("target", ["a", "", "a/x"])
def test_loops_end(tmp_path, links, target):
    images = ["a/0.png", "a/1.png", "a/x/2.png"]
    touch(tmp_path, *images)
    for name in links:
        link(tmp_path, f"a/{name}", tmp_path / target)
    tree = Tree(str(tmp_path))
    tree.top("")
    found = tree.below("a").images
    assert len(found) == 3
    assert {os.path.realpath(tmp_path / name) for name in found} == {str(tmp_path / name) for name in images}
    assert len(tree.repeated) == len(links)


def test_a_folder_elsewhere_is_followed(tmp_path):
    touch(tmp_path, "elsewhere/deep/0.png")
    link(tmp_path, "root/a", tmp_path / "elsewhere")
    tree = Tree(str(tmp_path / "root"))
    assert tree.below("a").images == ["a/deep/0.png"]
    assert tree.repeated == []


def test_links_to_themselves_and_to_nowhere(tmp_path):
    for name in ("self", "self.png", "self.txt"):
        link(tmp_path, f"a/{name}", name)
    link(tmp_path, "a/gone.png", "nowhere")
    tree = Tree(str(tmp_path))
    assert tree.top("a") == ([], {"links to nowhere": 4}, [])
    # In depth they are images, which can't be read: runs that began before have them in their lists.
    assert Tree(str(tmp_path)).below("a").images == ["a/gone.png", "a/self.png"]


@pytest.mark.parametrize("make", [lambda root: link(root, "b", "a"), lambda root: link(root, "b/c/in", root / "a")])
def test_a_folder_of_images_in_two_places_is_refused(tmp_path, make):
    touch(tmp_path, "a/0.png")
    make(tmp_path)
    tree = Tree(str(tmp_path))
    tree.below("a")
    with pytest.raises(DataError, match=r"^a and b(/c/in)? in .* are the same folder"):
        tree.below("b")


def test_many_folders_that_lead_to_each_other_end_soon(tmp_path, monkeypatch):
    """Each of the 40 holds them all: refused at the second, not when all 40 x 40 were listed."""
    for i in range(40):
        touch(tmp_path, f"{i:02d}/x.png")
        link(tmp_path, f"{i:02d}/all", tmp_path)
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    tree = Tree(str(tmp_path / "."))
    with pytest.raises(DataError, match="the same folder"):
        for i in range(40):
            tree.below(f"{i:02d}")
    assert len(listed) < 100


def test_the_same_top_by_two_names(tmp_path):
    touch(tmp_path, "train/0.png")
    link(tmp_path, "test", "train")
    tree = Tree(str(tmp_path))
    tree.top("train")
    with pytest.raises(DataError, match=r"/test and .*/train are the same folder"):
        tree.top("test")


def test_depth_is_not_limited_by_recursion(tmp_path):
    touch(tmp_path, f"{'d/' * 150}0.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert len(Tree(str(tmp_path)).below("d").images) == 1
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("held_out", ["test", "Val", "validation"])
def test_a_split_inside_a_class_is_refused(tmp_path, held_out):
    touch(tmp_path, "pets/deep/Train/cat/0.png", f"pets/deep/{held_out}/cat/1.png")
    with pytest.raises(DataError, match=f"deep holds Train and {held_out}.*give that folder as data.root"):
        Tree(str(tmp_path)).below("pets")


def test_names_of_splits():
    kinds = {
        "train": ["train", "Train", "TRAINING", "train_set", "trainset", "train2017", "Train-Images", "train_1"],
        "test": ["test", "Testing", "test data", "testset", "test1"],
        "validation": ["val", "valid", "VALIDATION", "eval", "Evaluation", "val2017", "validation_split"],
        "": ["trains", "trainer", "tester", "contest", "invalid", "values", "valley", "cat", "", "unlabelled", "2017"],
    }
    for kind, names in kinds.items():
        assert {name: split_kind(name) for name in names} == dict.fromkeys(names, kind)
