"""A folder of PNG and JPEG files as a data set: labelled by its folders, or not at all."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from care_jax.data.decode import SourceImage, UnreadableImageError, central_square, reduction_for
from care_jax.data.examples import DataError, DataSet, Examples, SkippedFiles

EXTENSIONS = (".jpeg", ".jpg", ".png")
# How many files are decoded in full before training on a folder that stays encoded.
_CHECKED_FILES = 256
_FILES_A_TASK = 8


class FolderImages:
    """`EncodedImages` that are files; nothing is read before it is asked for."""

    def __init__(self, paths: Sequence[str]):
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> bytes:
        return Path(self._paths[index]).read_bytes()

    def name(self, index: int) -> str:
        return self._paths[index]


def load_image_folder(
    root: str | os.PathLike[str] | None,
    *,
    image_size: int | None = None,
    resident: bool = True,
    test_fraction: float = 0.1,
) -> DataSet:
    """A folder in one of three layouts, told apart by its subfolders.

    * images directly inside: unlabelled, so there are no probes;
    * one folder a class, searched in depth: labels {"label"}, numbered in the order of the sorted names (a single
      folder says nothing about classes and counts as unlabelled);
    * `train` and `test` (or `val`), each in one of the two layouts above, with the same classes.

    Without a test folder, a share of each class is held out: evenly spaced through its sorted names, so the same for
    every run. Pre-training sees what is not held out. Files are taken by extension (.png, .jpg, .jpeg in any case) in
    sorted order; names that start with a dot, and any other file, are ignored.

    Args:
      root: the folder.
      image_size: side s of the resident images, pixels: the shorter side is resized to it, the centre kept. Encoded
        images keep their sizes.
      resident: decode everything now, into uint8 [n, s, s, 3]; or keep the files encoded and decode them when a batch
        needs them. A file that does not decode is left out, and counted in `skipped`.
      test_fraction: share of the images held out where there is no test folder; at least one image is.

    Raises:
      DataError: the folder is missing or holds no usable data set; the message says what was found.
      ValueError: an argument is out of range.
    """
    if root is None:
        raise ValueError("image_folder needs root, the folder that holds the images")
    if resident and (image_size is None or image_size < 1):
        raise ValueError(f"image_folder needs image_size >= 1 pixels to hold its images in memory, got {image_size}")
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"no folder {root}" if not root.exists() else f"{root} is a file, not a folder of images")
    train, test, classes = _find(root, test_fraction)
    skipped = SkippedFiles()
    if resident:
        assert image_size is not None
        train_examples, test_examples = (_decode(files, image_size, skipped) for files in (train, test))
        _check_enough_read(root, len(skipped), len(train.paths) + len(test.paths))
        for part, examples in (("train", train_examples), ("test", test_examples)):
            if not len(examples):
                raise DataError(f"no image for the {part} set of {root} can be decoded: {skipped.summary()}")
    else:
        checked = _check_sample(train.paths + test.paths, skipped)
        _check_enough_read(root, len(skipped), checked)
        train_examples, test_examples = (Examples(FolderImages(files.paths), files.labels) for files in (train, test))
    num_classes = {"label": len(classes)} if classes else {}
    return DataSet("image_folder", train_examples, train_examples, test_examples, num_classes, skipped)


@dataclasses.dataclass(frozen=True)
class _Files:
    """Paths in order, with the labels (or none) that go with them."""

    paths: list[str]
    labels: dict[str, np.ndarray]

    def select(self, rows: np.ndarray) -> "_Files":
        return _Files([self.paths[i] for i in rows], {name: values[rows] for name, values in self.labels.items()})


def _find(root: Path, test_fraction: float) -> tuple[_Files, _Files, list[str]]:
    """Training files, test files and class names ([] where unlabelled)."""
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    test_folder = next((name for name in ("test", "val") if name in folders), None)
    # A lone `train` is a split; among other names it may well be a class, of vehicles.
    is_split = "train" in folders and (test_folder is not None or len(folders) == 1)
    train_root = root / "train" if is_split else root
    by_class = _images_by_class(train_root)
    classes = sorted(by_class) if len(by_class) > 1 else []
    train = _numbered(by_class, classes)
    if not is_split or test_folder is None:
        return *_hold_out(root, train, test_fraction), classes
    test_by_class = _images_by_class(root / test_folder)
    if ("" in test_by_class) if classes else (len(test_by_class) > 1):
        labelled, unlabelled = ("train", test_folder) if classes else (test_folder, "train")
        raise DataError(f"{root / labelled} has class folders, {root / unlabelled} has not: give both the same layout")
    unknown = sorted(set(test_by_class) - set(classes)) if classes else []
    if unknown:
        raise DataError(f"{root / test_folder} has classes that {train_root} lacks: {', '.join(unknown[:5])}")
    return train, _numbered(test_by_class, classes), classes


def _images_by_class(folder: Path) -> dict[str, list[str]]:
    """Class name -> sorted image paths; {"": paths} where the folder is unlabelled."""
    own = _images(folder, sorted(entry.name for entry in folder.iterdir() if entry.is_file()))
    by_class = {}
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith("."):
            images = list(_images_in_depth(entry))
            if images:
                by_class[entry.name] = images
    if own and by_class:
        raise DataError(
            f"{folder} holds both images and folders of images ({sorted(by_class)[0]}): "
            "use one folder a class, or no folders"
        )
    if not own and not by_class:
        raise DataError(f"no images (.png, .jpg, .jpeg) in {folder}")
    return by_class or {"": own}


def _images_in_depth(folder: Path) -> Iterable[str]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from _images(Path(parent), sorted(names))


def _images(folder: Path, names: Sequence[str]) -> list[str]:
    return [str(folder / name) for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]


def _numbered(by_class: dict[str, list[str]], classes: list[str]) -> _Files:
    if not classes:
        return _Files([path for images in by_class.values() for path in images], {})
    paths = [path for name in classes for path in by_class.get(name, [])]
    labels = np.repeat(np.arange(len(classes)), [len(by_class.get(name, [])) for name in classes])
    return _Files(paths, {"label": labels.astype(np.int32)})


def _hold_out(root: Path, files: _Files, fraction: float) -> tuple[_Files, _Files]:
    """Takes the test set out of files sorted by class: every k-th, k = 1 / fraction."""
    count = len(files.paths)
    if count < 2:
        raise DataError(f"{root} holds a single image; one to train on and one to test on are the least")
    held_out = np.zeros(count, bool)
    held_out[_evenly_spaced(count, min(max(1, round(count * fraction)), count - 1))] = True
    labels = files.labels.get("label", np.zeros(count, np.int32))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if held_out[members].all():
            held_out[members[0]] = False  # a class is learned before it is tested
    if not held_out.any():
        raise DataError(f"no class of {root} has two images, one of which could be held out: add a test folder")
    return files.select(np.flatnonzero(~held_out)), files.select(np.flatnonzero(held_out))


def _evenly_spaced(count: int, chosen: int) -> np.ndarray:
    """`chosen` distinct integers of [0, count), the middles of equal parts."""
    return ((2 * np.arange(chosen) + 1) * count) // (2 * chosen)


def _decode(files: _Files, size: int, skipped: SkippedFiles) -> Examples:
    images = np.empty((len(files.paths), size, size, 3), np.uint8)
    readable = np.zeros(len(files.paths), bool)

    def fill(rows: range) -> None:
        for row in rows:
            image = _read(files.paths[row], skipped, lambda image: _central(image, size))
            if image is not None:
                images[row], readable[row] = image, True

    _in_threads(fill, len(files.paths))
    if readable.all():
        return Examples(images, files.labels)
    return Examples(images[readable], {name: values[readable] for name, values in files.labels.items()})


def _check_sample(paths: Sequence[str], skipped: SkippedFiles) -> int:
    """Decodes some files in full; the number of them."""
    sample = [paths[i] for i in _evenly_spaced(len(paths), min(len(paths), _CHECKED_FILES))]

    def check(rows: range) -> None:
        for row in rows:
            _read(sample[row], skipped, SourceImage.pixels)

    _in_threads(check, len(sample))
    return len(sample)


def _central(image: SourceImage, size: int) -> np.ndarray:
    boxes, sizes = [central_square(image.height, image.width)], [size]
    return image.crops(boxes, sizes, reduction=reduction_for(boxes, sizes))[0]


def _read(path: str, skipped: SkippedFiles, decode: Callable[[SourceImage], np.ndarray]) -> np.ndarray | None:
    """`decode` of the image in a file; None, and a note of it, if there is none."""
    try:
        return decode(SourceImage.from_bytes(Path(path).read_bytes()))
    except UnreadableImageError as error:
        skipped.add(path, str(error))
    except OSError as error:
        skipped.add(path, f"unreadable: {error.strerror}")
    return None


def _in_threads(function: Callable[[range], None], count: int) -> None:
    """Calls `function` on short ranges that make up [0, count)."""
    parts = [range(start, min(start + _FILES_A_TASK, count)) for start in range(0, count, _FILES_A_TASK)]
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as threads:
        for _ in threads.map(function, parts):
            pass


def _check_enough_read(root: Path, broken: int, checked: int) -> None:
    if 2 * broken > checked:
        raise DataError(f"{broken} of {checked} image files in {root} cannot be decoded: is this the right folder?")
