"""A folder of PNG and JPEG files as a data set: labelled by its folders, or not at all."""

import dataclasses
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from care_jax.data.decode import SourceImage, UnreadableImageError, central_square, reduction_for
from care_jax.data.errors import DataError
from care_jax.data.examples import DataSet, Examples, SkippedFiles
from care_jax.data.files import UNKNOWN_SIZE, Listing, list_files, open_unchanged

EXTENSIONS = (".jpeg", ".jpg", ".png")
# How many files are decoded in full before training on a folder that stays encoded.
_CHECKED_FILES = 256
_FILES_A_TASK = 8
# Above what the largest image that is decoded takes uncompressed, 16-bit with transparency: memory stays bounded.
_MAX_BYTES = 2**30


class FolderImages:
    """`EncodedImages` that are files; nothing is read before it is asked for.

    What is wrong with a file from the start is for whoever decodes it to skip. A file that has changed since it was
    listed stops the run: skipping it would quietly give every batch after it other images.
    """

    def __init__(self, listing: Listing):
        self._listing = listing

    def __len__(self) -> int:
        return len(self._listing)

    def read(self, index: int) -> bytes:
        """All bytes of file `index`.

        Raises:
          OSError: it can't be read, or is larger than any image.
          DataError: it is gone, or has another size than when it was listed.
        """
        size = int(self._listing.sizes[index])
        if size == UNKNOWN_SIZE:
            raise OSError(errno.ENOENT, "no file, or a link to nowhere")
        if size > _MAX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        with open_unchanged(self.name(index), size) as file:
            return file.read()

    def name(self, index: int) -> str:
        return self._listing.path(index)


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
    try:
        if not root.is_dir():
            raise DataError(f"no folder {root}" if not root.exists() else f"{root} is a file, not a folder of images")
        train, test, classes = _find(root, test_fraction)
    except OSError as error:
        raise DataError(f"can't look into {error.filename or root}: {error.strerror}") from error
    skipped = SkippedFiles()
    if resident:
        assert image_size is not None
        train_examples, test_examples = (_decode(files, image_size, skipped) for files in (train, test))
        _check_enough_read(root, len(skipped), len(train.listing) + len(test.listing))
        for part, examples in (("train", train_examples), ("test", test_examples)):
            if not len(examples):
                raise DataError(f"no image for the {part} set of {root} can be decoded: {skipped.summary()}")
    else:
        _check_enough_read(root, *_check_sample((train, test), skipped))
        train_examples, test_examples = (Examples(FolderImages(files.listing), files.labels) for files in (train, test))
    num_classes = {"label": len(classes)} if classes else {}
    listings = {"train": train.listing, "test": test.listing}
    return DataSet("image_folder", train_examples, train_examples, test_examples, num_classes, skipped, listings)


@dataclasses.dataclass(frozen=True)
class _Files:
    """Files in order, with the labels (or none) that go with them."""

    listing: Listing
    labels: dict[str, np.ndarray]

    def select(self, rows: np.ndarray) -> "_Files":
        return _Files(self.listing.select(rows), {name: values[rows] for name, values in self.labels.items()})


def _find(root: Path, test_fraction: float) -> tuple[_Files, _Files, list[str]]:
    """Training files, test files and class names ([] where unlabelled)."""
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    test_folder = next((name for name in ("test", "val") if name in folders), None)
    # A lone `train` is a split; among other names it may well be a class, of vehicles.
    is_split = "train" in folders and (test_folder is not None or len(folders) == 1)
    train_root = root / "train" if is_split else root
    by_class = _images_by_class(root, "train" if is_split else "")
    classes = sorted(by_class) if len(by_class) > 1 else []
    train = _numbered(root, by_class, classes)
    if not is_split or test_folder is None:
        return *_hold_out(root, train, test_fraction), classes
    test_by_class = _images_by_class(root, test_folder)
    if ("" in test_by_class) if classes else (len(test_by_class) > 1):
        labelled, unlabelled = ("train", test_folder) if classes else (test_folder, "train")
        raise DataError(f"{root / labelled} has class folders, {root / unlabelled} has not: give both the same layout")
    unknown = sorted(set(test_by_class) - set(classes)) if classes else []
    if unknown:
        raise DataError(f"{root / test_folder} has classes that {train_root} lacks: {', '.join(unknown[:5])}")
    return train, _numbered(root, test_by_class, classes), classes


def _images_by_class(root: Path, part: str) -> dict[str, list[str]]:
    """Class name -> sorted paths of images below the root; {"": paths} where the folder `part` of it is unlabelled."""
    folder = root / part
    own = _images(part, sorted(entry.name for entry in folder.iterdir() if entry.is_file()))
    by_class = {}
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith("."):
            images = list(_images_in_depth(root, entry))
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


def _images_in_depth(root: Path, folder: Path) -> Iterable[str]:
    def refuse(error: OSError) -> None:
        raise error  # or os.walk passes over a folder that can't be read, and its images would be missing

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from _images(os.path.relpath(parent, root), sorted(names))


def _images(folder: str, names: Sequence[str]) -> list[str]:
    return [
        os.path.join(folder, name) for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]


def _numbered(root: Path, by_class: dict[str, list[str]], classes: list[str]) -> _Files:
    if not classes:
        return _Files(list_files(root, [name for images in by_class.values() for name in images]), {})
    names = [name for label in classes for name in by_class.get(label, [])]
    labels = np.repeat(np.arange(len(classes)), [len(by_class.get(label, [])) for label in classes])
    return _Files(list_files(root, names), {"label": labels.astype(np.int32)})


def _hold_out(root: Path, files: _Files, fraction: float) -> tuple[_Files, _Files]:
    """Takes the test set out of files sorted by class: every k-th, k = 1 / fraction."""
    count = len(files.listing)
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
    encoded = FolderImages(files.listing)
    images = np.empty((len(encoded), size, size, 3), np.uint8)
    readable = np.zeros(len(encoded), bool)

    def fill(rows: range) -> None:
        for row in rows:
            image = _read(encoded, row, skipped, lambda image: _central(image, size))
            if image is not None:
                images[row], readable[row] = image, True

    _in_threads(fill, len(encoded))
    if readable.all():
        return Examples(images, files.labels)
    return Examples(images[readable], {name: values[readable] for name, values in files.labels.items()})


def _check_sample(parts: Sequence[_Files], skipped: SkippedFiles) -> tuple[int, int]:
    """Decodes some files in full: how many of them are broken, and their number."""
    train, test = (FolderImages(part.listing) for part in parts)
    count = len(train) + len(test)
    chosen = _evenly_spaced(count, min(count, _CHECKED_FILES)).tolist()
    sample = [(train, i) if i < len(train) else (test, i - len(train)) for i in chosen]

    def check(rows: range) -> None:
        for row in rows:
            _read(*sample[row], skipped, SourceImage.pixels)

    _in_threads(check, len(sample))
    return len(skipped), len(sample)


def _central(image: SourceImage, size: int) -> np.ndarray:
    boxes, sizes = [central_square(image.height, image.width)], [size]
    return image.crops(boxes, sizes, reduction=reduction_for(boxes, sizes))[0]


def _read(
    images: FolderImages, index: int, skipped: SkippedFiles, decode: Callable[[SourceImage], np.ndarray]
) -> np.ndarray | None:
    """`decode` of the image in a file; None, and a note of it, if there is none."""
    try:
        return decode(SourceImage.from_bytes(images.read(index)))
    except UnreadableImageError as error:
        skipped.add(images.name(index), str(error))
    except OSError as error:
        skipped.add(images.name(index), f"unreadable: {error.strerror}")
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
