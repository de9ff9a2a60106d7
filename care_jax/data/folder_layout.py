"""Which image of a folder is in which part and class, told from the names of its subfolders; and what is left out."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from care_jax.data.decode import EXTENSIONS
from care_jax.data.errors import DataError, some
from care_jax.data.examples import CLASS
from care_jax.data.files import UNKNOWN_SIZE, Listing, look_up
from care_jax.data.folder_tree import Tree, extension, in_two_places, split_kind

HELD_OUT = 0.1  # the usual share of a folder without a test folder


@dataclasses.dataclass(frozen=True)
class LabelledFiles:
    """Files in order, with the labels (or none) that go with them."""

    listing: Listing
    labels: dict[str, np.ndarray]

    def select(self, rows: np.ndarray) -> "LabelledFiles":
        """Those of some rows, int [m]."""
        return LabelledFiles(self.listing.select(rows), {name: values[rows] for name, values in self.labels.items()})


@dataclasses.dataclass(frozen=True)
class Layout:
    """A folder as a data set.

    Attributes:
      train, test: the files of each part.
      classes: names, in the order of the labels; empty where nothing is labelled.
      notes: what was chosen and what was left out, in words.
    """

    train: LabelledFiles
    test: LabelledFiles
    classes: list[str]
    notes: list[str]


def find_layout(root: str, test_fraction: float) -> Layout:
    """Looks into a folder, and stats each image file once.

    Args:
      root: of one of the layouts that `load_image_folder` describes.
      test_fraction: share held out where there is no test folder.

    Raises:
      DataError: no layout, or more than one, fits what is there.
      OSError: a folder can't be looked into.
    """
    tree = Tree(root)
    notes = _Notes()
    top = tree.top("")
    splits = {name: split_kind(name) for name in top.folders if split_kind(name)}
    if not splits:
        parts = {"": _by_class(tree, "", notes)}
    else:
        train, test = _chosen(root, splits, notes)
        notes.count("", top.ignored)
        notes.count("", collections.Counter(map(extension, top.images)))
        _check_rest(tree, splits, [name for name in top.folders if name not in splits], notes)
        parts = {part: _by_class(tree, part, notes) for part in (train, test) if part}
    by_class, *test_by_class = parts.values()
    classes = sorted(by_class) if len(by_class) > 1 else []
    if not classes and "" not in by_class:
        notes.told.append(f"no classes, as all images are in one folder ({next(iter(by_class))})")
    if test_by_class:
        _check_same_layout(root, *parts, by_class=test_by_class[0], classes=classes)
    found = _numbered(root, parts, classes, notes)
    train_files, test_files = found if test_by_class else _hold_out(root, found[0], test_fraction)
    if test_by_class and test_fraction != HELD_OUT:
        notes.told.append(f"test_fraction={test_fraction:g} holds nothing out, as {[*parts][1]} is the test set")
    notes.told += _untested(test_files, classes)
    return Layout(train_files, test_files, classes, notes.all(tree.repeated))


class _Notes:
    """Gathers what is to be told about a folder."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.empty: list[str] = []
        self.repeated_files: list[str] = []
        self._ignored: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def count(self, folder: str, ignored: Mapping[str, int]) -> None:
        """Adds files ignored in a folder ("": the root), by extension."""
        for kind, count in ignored.items():
            self._ignored[kind][folder] += count

    def all(self, repeated_folders: Sequence[str]) -> list[str]:
        told = [*self.told]
        if self._ignored:
            total = sum(counts.total() for counts in self._ignored.values())
            told.append(f"ignored {total} file{'s' if total > 1 else ''} ({_extensions(self._ignored)})")
        repeated = [*repeated_folders, *self.repeated_files]
        for names, one, more in (
            (repeated, "name of a file or folder that has another", "names of files and folders that have others"),
            (self.empty, "empty folder", "empty folders"),
        ):
            if names:
                told.append(f"passed over {len(names)} {one if len(names) == 1 else more} ({some(names)})")
        return told


def _chosen(root: str, splits: Mapping[str, str], notes: _Notes) -> tuple[str, str]:
    """The training folder, and the test folder or ""; validation images are tested on where there are no others."""
    by_kind = {kind: [name for name in splits if splits[name] == kind] for kind in ("train", "test", "validation")}
    train, test = by_kind["train"], by_kind["test"] or by_kind["validation"]
    if not train:
        raise DataError(
            f"{root} holds {some(test)}, but no train: which images are to be trained on? Add a folder train; or "
            "give one of these folders as data.root; or rename it, if it is a class"
        )
    for names, what in ((train, "trained"), (test, "tested")):
        if len(names) > 1:
            raise DataError(f"{root} holds {some(names)}: which one is to be {what} on? Keep one, move the other")
    if by_kind["test"] and by_kind["validation"]:
        notes.told.append(f"tested on {test[0]}, while {some(by_kind['validation'])} is not used")
    return train[0], (test or [""])[0]


def _check_rest(tree: Tree, splits: Iterable[str], others: Iterable[str], notes: _Notes) -> None:
    """Beside folders named like splits there may be no other images."""
    with_images = []
    for name in others:
        found = tree.below(name)
        if found.images:
            with_images.append(name)
        notes.count(name, found.ignored)
    if with_images:
        raise DataError(
            f"{tree.root} holds {some([*splits])} beside {some(with_images)}: are these the parts of a split, or "
            "classes? Rename the first if they are classes; else move the others away"
        )


def _by_class(tree: Tree, part: str, notes: _Notes) -> dict[str, list[str]]:
    """Class name -> paths of images below the root, in order; {"": paths} where the folder `part` is unlabelled."""
    top = tree.top(part)
    folder = os.path.join(tree.root, part) if part else tree.root
    by_class, without = {}, {}
    notes.count(part, top.ignored)
    for name in top.folders:
        path = os.path.join(part, name)
        found = tree.below(path)
        if found.images:
            by_class[name] = found.images
        elif found.ignored:
            without[name] = found.ignored
        elif path not in tree.repeated:
            notes.empty.append(path)
        notes.count(path, found.ignored)
    if top.images and by_class:
        raise DataError(
            f"{folder} holds both images and folders of images ({min(by_class)}): use one folder a class, or no folders"
        )
    if not top.images and not by_class:
        found_ignored = top.ignored + sum(without.values(), collections.Counter())
        told = f", only {_counted(found_ignored)}" if found_ignored else ""
        raise DataError(f"no images ({', '.join(EXTENSIONS)}) in {folder}{told}")
    if without and by_class:
        name = min(without)
        raise DataError(
            f"{os.path.join(folder, name)} holds files but no image ({_counted(without[name])}): convert them to one "
            f"of {', '.join(EXTENSIONS)} if it is a class, else move it away"
        )
    return by_class or {"": top.images}


def _check_same_layout(
    root: str, train: str, test: str, *, by_class: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> None:
    if ("" in by_class) if classes else (len(by_class) > 1):
        labelled, unlabelled = (train, test) if classes else (test, train)
        raise DataError(
            f"{os.path.join(root, labelled)} has class folders, {os.path.join(root, unlabelled)} has not: give both "
            "the same layout"
        )
    unknown = sorted(set(by_class) - set(classes)) if classes else []
    if unknown:
        raise DataError(
            f"{os.path.join(root, test)} has classes that {os.path.join(root, train)} lacks: {some(unknown)}"
        )


def _numbered(
    root: str, parts: Mapping[str, Mapping[str, list[str]]], classes: Sequence[str], notes: _Notes
) -> list[LabelledFiles]:
    """The files of each part with their labels, each real file once."""
    groups = [(part, name, images) for part in parts for name, images in sorted(parts[part].items())]
    names = [path for _, _, images in groups for path in images]
    owners = np.repeat(np.arange(len(groups)), [len(images) for _, _, images in groups])
    sizes, identities = look_up(root, names)
    first = _first_rows(identities, sizes != UNKNOWN_SIZE)
    apart = np.flatnonzero(owners != owners[first])
    if len(apart):
        raise in_two_places(root, names[first[apart[0]]], names[apart[0]], "file")
    once = first == np.arange(len(names))
    notes.repeated_files += [names[row] for row in np.flatnonzero(~once)]
    listing = Listing(root, names, sizes)
    label_of = {name: label for label, name in enumerate(classes)}
    labels = np.array([label_of.get(name, 0) for _, name, _ in groups], np.int32)[owners]
    in_part = np.array([list(parts).index(part) for part, _, _ in groups])[owners]
    found = LabelledFiles(listing, {CLASS: labels} if classes else {})
    return [found.select(np.flatnonzero(once & (in_part == part))) for part in range(len(parts))]


def _first_rows(identities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """For each of n files the first row that is the same file, int [n]: itself where there is no other.

    Args:
      identities: uint64 [n, 2], device and inode.
      known: bool [n]; where it is not, and where a file system numbers no inodes, a file is only itself.
    """
    first = np.arange(len(identities))
    rows = np.flatnonzero(known & (identities[:, 1] != 0))
    rows = rows[np.lexsort((identities[rows, 1], identities[rows, 0]))]  # stable: the first stays first
    starts = np.ones(len(rows), bool)
    starts[1:] = (identities[rows[1:]] != identities[rows[:-1]]).any(axis=1)
    first[rows] = rows[np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))]
    return first


def _hold_out(root: str, files: LabelledFiles, fraction: float) -> tuple[LabelledFiles, LabelledFiles]:
    """Takes the test set out of files sorted by class: every k-th of all, k = 1 / fraction; no class whole."""
    count = len(files.listing)
    if count < 2:
        raise DataError(f"{root} holds a single image; one to train on and one to test on are the least")
    held_out = np.zeros(count, bool)
    held_out[evenly_spaced(count, min(max(1, round(count * fraction)), count - 1))] = True
    labels = files.labels.get(CLASS, np.zeros(count, np.int32))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if held_out[members].all():
            held_out[members[0]] = False  # a class is learned before it is tested
    if not held_out.any():
        raise DataError(f"no class of {root} has two images, one of which could be held out: add a test folder")
    return files.select(np.flatnonzero(~held_out)), files.select(np.flatnonzero(held_out))


def _untested(test: LabelledFiles, classes: Sequence[str]) -> list[str]:
    """What is to be told of classes without a test image; nothing where there is none."""
    tested = set(test.labels[CLASS].tolist()) if classes else set()
    names = [name for label, name in enumerate(classes) if label not in tested]
    have = "has" if len(names) == 1 else "have"
    return [f"{len(names)} of {len(classes)} classes {have} no test image ({some(names)})"] if names else []


def evenly_spaced(count: int, chosen: int) -> np.ndarray:
    """`chosen` distinct integers of [0, count), the middles of equal parts."""
    return ((2 * np.arange(chosen) + 1) * count) // (2 * chosen)


def _extensions(ignored: Mapping[str, collections.Counter[str]]) -> str:
    """Counts by extension, and by class where they are known: ".txt 2, .webp 1 in dog"."""
    told = []
    for kind, counts in sorted(ignored.items(), key=lambda item: (-item[1].total(), item[0])):
        where = ""
        if set(counts) != {""}:
            places = [
                f"{name or 'outside'} {count}" for name, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))
            ]
            where = f" in {next(iter(counts))}" if len(counts) == 1 else f" ({some(places)})"
        told.append(f"{kind} {counts.total()}{where}")
    return some(told)


def _counted(ignored: Mapping[str, int]) -> str:
    return some([f"{kind} {count}" for kind, count in sorted(ignored.items(), key=lambda c: (-c[1], c[0]))])
