"""A folder of image files as a data set: labelled by its folders, or not at all."""

import errno
import math
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from care_jax.data.decode import SourceImage, UnreadableImageError, central_square, reduction_for
from care_jax.data.errors import DataError
from care_jax.data.examples import CLASS, DataSet, Examples
from care_jax.data.files import UNKNOWN_SIZE, Listing, open_unchanged
from care_jax.data.folder_layout import HELD_OUT, LabelledFiles, evenly_spaced, find_layout
from care_jax.data.skipped import SkippedFiles
from care_jax.machine import available_memory

# How many files are decoded in full before training on a folder that stays encoded.
_CHECKED_FILES = 256
_FILES_A_TASK = 8
_NO_LEVEL = -1
# Of 65,535: an image of 16 bits that stays below has 14 bits or fewer, or is dark, and is left with 64 gray levels.
_LOW_LEVEL = 2**14
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
    test_fraction: float = HELD_OUT,
) -> DataSet:
    """A folder in one of three layouts, told apart by its subfolders.

    * images directly inside: unlabelled, so there are no probes;
    * one folder a class, searched in depth: labels {"class"}, numbered in the order of the sorted names (a single
      folder says nothing about classes and counts as unlabelled);
    * `train` and `test`, each in one of the two layouts above, with the same classes. Their usual other names
      (`Training`, `val`, `valid`, `validation`, `eval`, `testing`, ...; see `split_kind`) are taken in any case; of a
      test and a validation folder the former is tested on and the latter not used.

    Without a test folder, a share of all images is held out: evenly spaced through all files, class by class and sorted
    by name, so the same for every run. A class of many images is held out in about that share, one of few may have no
    test image, and none is held out whole. Pre-training sees what is not held out. Files are taken by extension
    (`decode.EXTENSIONS` in any case) in sorted order. Links are followed; a file or folder that several names lead to
    is taken once, by the first.

    In `DataSet.notes` are counted: other files, but for names that start with a dot and the litter of desktops and
    servers; classes without a test image; and images of 16 bits a channel that use few of their levels, as data of 12
    bits does (among those that are decoded here: all, or some where they stay encoded).

    Args:
      root: the folder.
      image_size: side s of the resident images, pixels: the shorter side is resized to it, the centre kept. Encoded
        images keep their sizes.
      resident: decode everything now, into uint8 [n, s, s, 3]; or keep the files encoded and decode them when a batch
        needs them. A file that does not decode is left out, and counted in `skipped`.
      test_fraction: share of the images held out where there is no test folder; at least one image is.

    Raises:
      DataError: the folder is missing, holds no usable data set or leaves open which one (a class folder without
        images, folders named like a split beside others, a file in two classes); a file can't be read now, by no fault
        of its own; or an argument is out of range. The message says what was found.
    """
    if root is None or not os.fspath(root):
        raise DataError("image_folder needs root, the folder that holds the images: --config.data.root=FOLDER")
    if resident and (image_size is None or image_size < 1):
        raise DataError(f"image_folder needs image_size >= 1 pixels to hold its images in memory, got {image_size}")
    if not 0.0 < test_fraction < 1.0:
        raise DataError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    root = os.fspath(root)
    try:
        if not stat.S_ISDIR(os.stat(root).st_mode):
            raise DataError(f"{root} is a file, not a folder of images")
        layout = find_layout(root, test_fraction)
    except FileNotFoundError as error:
        if error.filename != root:
            raise DataError(f"{error.filename} vanished while it was looked into: start again") from error
        raise DataError(f"no folder {root}") from error
    except OSError as error:
        raise DataError(f"can't look into {error.filename or root}: {error.strerror or error}") from error
    except DataError:
        raise
    except ValueError as error:  # a null byte, or text that is no file name
        raise DataError(f"{root} can't be the name of a folder: {error}") from error
    train, test, classes = layout.train, layout.test, layout.classes
    skipped = SkippedFiles()
    if resident:
        assert image_size is not None
        (train_examples, train_levels), (test_examples, test_levels) = (
            _decode(files, image_size, skipped) for files in (train, test)
        )
        levels = np.concatenate([train_levels, test_levels])
        _check_enough_read(root, len(skipped), len(train.listing) + len(test.listing))
        for part, examples in (("train", train_examples), ("test", test_examples)):
            if not len(examples):
                raise DataError(f"no image for the {part} set of {root} can be decoded: {skipped.summary()}")
    else:
        levels = _check_sample((train, test), skipped)
        _check_enough_read(root, len(skipped), len(levels))
        train_examples, test_examples = (Examples(FolderImages(files.listing), files.labels) for files in (train, test))
    return DataSet(
        "image_folder",
        train_examples,
        train_examples,
        test_examples,
        {CLASS: len(classes)} if classes else {},
        skipped,
        files={"train": train.listing, "test": test.listing},
        class_names={CLASS: classes} if classes else {},
        notes=[*layout.notes, *_note_of_levels(levels)],
    )


def _decode(files: LabelledFiles, size: int, skipped: SkippedFiles) -> tuple[Examples, np.ndarray]:
    """Those that can be decoded; and of each file the highest level, as `_read` has it."""
    encoded = FolderImages(files.listing)
    shape = len(encoded), size, size, 3
    try:
        if math.prod(shape) > available_memory():  # Linux would promise it, and kill the process later
            raise MemoryError
        images = np.empty(shape, np.uint8)
    except (MemoryError, ValueError) as error:
        raise DataError(
            f"{len(encoded)} images of {size} x {size} pixels do not fit into memory: choose a smaller image_size, or "
            "leave them encoded (--config.augment.placement=decode)"
        ) from error
    readable = np.zeros(len(encoded), bool)
    levels = np.full(len(encoded), _NO_LEVEL)

    def fill(rows: range) -> None:
        for row in rows:
            image, levels[row] = _read(encoded, row, skipped, lambda image: _central(image, size))
            if image is not None:
                images[row], readable[row] = image, True

    _in_threads(fill, len(encoded))
    if readable.all():
        return Examples(images, files.labels), levels
    return Examples(images[readable], {name: values[readable] for name, values in files.labels.items()}), levels


def _check_sample(parts: Sequence[LabelledFiles], skipped: SkippedFiles) -> np.ndarray:
    """Decodes some files in full: the highest level of each, as `_read` has it."""
    train, test = (FolderImages(part.listing) for part in parts)
    count = len(train) + len(test)
    chosen = evenly_spaced(count, min(count, _CHECKED_FILES)).tolist()
    sample = [(train, i) if i < len(train) else (test, i - len(train)) for i in chosen]
    levels = np.full(len(sample), _NO_LEVEL)

    def check(rows: range) -> None:
        for row in rows:
            _, levels[row] = _read(*sample[row], skipped, SourceImage.pixels)

    _in_threads(check, len(sample))
    return levels


def _note_of_levels(levels: np.ndarray) -> list[str]:
    """What is to be told of images that use few of their levels; nothing where there is none.

    Args:
      levels: int [n], the highest of each image that was looked at; `_NO_LEVEL` for those of fewer than 16 bits.
    """
    low = levels[(levels != _NO_LEVEL) & (levels < _LOW_LEVEL)]
    if not len(low):
        return []
    highest, images = int(low.max()), "image looked at has" if len(levels) == 1 else "images looked at have"
    return [
        f"{len(low)} of {len(levels)} {images} 16 bits and reach at most level {highest} of 65535: they are dark, at "
        f"most {round(highest / 257) + 1} of 256 levels are left of them; rescale them"
    ]


def _central(image: SourceImage, size: int) -> np.ndarray:
    boxes, sizes = [central_square(image.height, image.width)], [size]
    return image.crops(boxes, sizes, reduction=reduction_for(boxes, sizes))[0]


def _read(
    images: FolderImages, index: int, skipped: SkippedFiles, decode: Callable[[SourceImage], np.ndarray]
) -> tuple[np.ndarray | None, int]:
    """`decode` of the image in a file, and its highest level where it has 16 bits a channel, else `_NO_LEVEL`.

    None and `_NO_LEVEL`, and a note of it, if there is no image.
    """
    try:
        image = SourceImage.from_bytes(images.read(index))
        decoded = decode(image)
        return decoded, _NO_LEVEL if image.highest_level is None else image.highest_level
    except UnreadableImageError as error:
        skipped.add(images.name(index), str(error))
    except OSError as error:
        skipped.add(images.name(index), f"unreadable: {error.strerror}")
    return None, _NO_LEVEL


def _in_threads(function: Callable[[range], None], count: int) -> None:
    """Calls `function` on short ranges that make up [0, count)."""
    parts = [range(start, min(start + _FILES_A_TASK, count)) for start in range(0, count, _FILES_A_TASK)]
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as threads:
        for _ in threads.map(function, parts):
            pass


def _check_enough_read(root: str, broken: int, checked: int) -> None:
    if 2 * broken > checked:
        raise DataError(f"{broken} of {checked} image files in {root} cannot be decoded: is this the right folder?")
