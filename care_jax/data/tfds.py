"""Data sets by way of TensorFlow Datasets. Neither it nor TensorFlow is imported before one of them is asked for."""

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from care_jax.data.errors import DataError
from care_jax.data.examples import CLASS, DataSet, Examples
from care_jax.data.files import Listing, list_files
from care_jax.data.record_index import Index
from care_jax.data.records import RecordImages, RecordSource, index_tfrecords, read_labels
from care_jax.data.tf_data import import_tensorflow

_CHUNK = 512
_WORDNET_ID = re.compile(r"n\d{8}")
# Splits that are pre-trained on beside "train".
_EXTRA_SPLITS = {"stl10": ("unlabelled",)}
_MANUAL = {
    "imagenet2012": " (first put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, from image-net.org, into the "
    "folder downloads/manual of the data directory)"
}


def load_small(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> DataSet:
    """A data set that fits in memory whole.

    Args:
      name: "cifar10", "cifar100" or "stl10"; stl10 is pre-trained on its train and unlabelled splits, 105,000 images.
      root: data directory of TensorFlow Datasets; None is its default.
      image_size: side to resize to, pixels, bilinear and antialiased; None keeps the images as they are.
      download: fetch and prepare it if it is missing.

    Raises:
      DataError: it isn't there, or can't be downloaded or read; the message says how to prepare it. Or an image_size
        below 1.
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size must be >= 1, got {image_size}")
    tf = import_tensorflow()
    builder = _builder(name, root, download)
    with _reading(name, builder):
        classes = builder.info.features["label"].names
        train, test = (list(_chunks(tf, builder, split, image_size)) for split in ("train", "test"))
        extra = [chunk for split in _EXTRA_SPLITS.get(name, ()) for chunk in _chunks(tf, builder, split, image_size)]
    images = np.concatenate([chunk["image"] for chunk in train + extra])
    labels = {CLASS: np.concatenate([chunk["label"] for chunk in train]).astype(np.int32)}
    train_examples = Examples(images[: len(labels[CLASS])], labels)
    test_examples = Examples(
        np.concatenate([chunk["image"] for chunk in test]),
        {CLASS: np.concatenate([chunk["label"] for chunk in test]).astype(np.int32)},
    )
    pretrain = Examples(images) if extra else train_examples
    counts, names = {CLASS: len(classes)}, {CLASS: classes}
    return DataSet(name, pretrain, train_examples, test_examples, counts, class_names=names)


def load_imagenet(
    *,
    root: str | os.PathLike[str] | None = None,
    class_file: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> DataSet:
    """ImageNet (ILSVRC 2012), left encoded; its validation split is the test set.

    The first use reads all records once, for their labels, which are kept beside the data, or in the user's cache
    folder where the data's can't be written to: minutes, on a local disk.

    Args:
      root: data directory of TensorFlow Datasets, on a local file system; None is its default.
      class_file: WordNet ids, one a line: only these classes are kept, numbered in the order of the file. With the 100
        ids of the CMC repository's imagenet100.txt this is ImageNet100.
      download: prepare it if it is missing (from archives fetched by hand: ImageNet can't be downloaded freely).

    Raises:
      DataError: it isn't there or can't be read, or the class file is unusable; the message names the line.
    """
    import_tensorflow()
    builder = _builder("imagenet2012", root, download)
    classes = builder.info.features["label"].names
    kept = list(range(len(classes))) if class_file is None else read_class_file(class_file, classes)
    notes: list[str] = []
    with _reading("imagenet2012", builder):
        train, test = (_encoded(builder, split, kept, notes) for split in ("train", "validation"))
        files = {split: _shards(builder, split) for split in ("train", "validation")}
    if not len(train) or not len(test):
        raise DataError(f"imagenet2012 in {builder.data_dir} has no example of the classes in {class_file}")
    names = {CLASS: [classes[index] for index in kept]}
    return DataSet("imagenet2012", train, train, test, {CLASS: len(kept)}, files=files, class_names=names, notes=notes)


def prepare(name: str, root: str | os.PathLike[str] | None) -> None:
    """Fetches and prepares a data set where it is missing; by one process at a time in a folder.

    Args:
      name: as of TensorFlow Datasets.
      root: data directory of TensorFlow Datasets; None is its default.

    Raises:
      DataError: it can't be downloaded or prepared.
    """
    import_tensorflow()
    _builder(name, root, download=True)


def read_class_file(path: str | os.PathLike[str], classes: list[str]) -> list[int]:
    """Indices into `classes` of the WordNet ids in a file, one a line, in its order; blank lines are passed over.

    Raises:
      DataError: no such file, or a line that is not an id, not one of the classes, or given before.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:  # a ValueError: of a null byte in the path, for instance
        reason = "not a text file" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise DataError(f"can't read the class file {path}: {reason}") from error
    known = {name: index for index, name in enumerate(classes)}
    kept: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        wordnet_id = line.strip()
        if not wordnet_id:
            continue
        where = f"{path}, line {number}: {wordnet_id!r}"
        if not _WORDNET_ID.fullmatch(wordnet_id):
            raise DataError(f"{where} is not a WordNet id such as n01440764")
        if wordnet_id not in known:
            raise DataError(f"{where} is not one of the {len(classes)} classes of ImageNet")
        if wordnet_id in kept:
            raise DataError(f"{where} is listed twice")
        kept[wordnet_id] = known[wordnet_id]
    if not kept:
        raise DataError(f"the class file {path} holds no WordNet ids")
    return list(kept.values())


def _builder(name: str, root: str | os.PathLike[str] | None, download: bool) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"{name} needs TensorFlow Datasets: pip install 'care_jax[tfds]'") from error
    try:
        with contextlib.suppress(OSError):  # what is missing is told below, with what to do about it
            os.stat(root or ".")
        with _quiet():
            builder = tfds.builder(name, data_dir=None if root is None else os.fspath(root))
    except Exception as error:  # the path is no path, or what was prepared there is damaged
        raise DataError(f"{name} can't be looked for in {root or 'its default folder'} ({_line(error)})") from error
    if download:
        try:
            builder.download_and_prepare()
        except Exception as error:  # of the network, the disk, or the data set's own code
            raise DataError(
                f"{name} could not be prepared in {builder.data_dir} ({_line(error)}); {_how_to_prepare(name, builder)}"
            ) from error
    return builder


@contextlib.contextmanager
def _reading(name: str, builder: Any) -> Iterator[None]:
    """Whatever goes wrong inside is told in one line, with the way to put it right; want of memory by `data.load`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        with _quiet():
            reason = f"can't be read ({_line(error)})" if builder.is_prepared() else "is not prepared"
        raise DataError(f"{name} {reason} in {builder.data_dir}; {_how_to_prepare(name, builder)}") from error


def _how_to_prepare(name: str, builder: Any) -> str:
    return f"prepare it with: tfds build {name} --data_dir={builder.data_dir_root}{_MANUAL.get(name, '')}"


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back the warnings by which TensorFlow Datasets announces what a DataError is about to say."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _chunks(tf: ModuleType, builder: Any, split: str, image_size: int | None) -> Iterator[dict[str, np.ndarray]]:
    """Images (uint8) and labels of a split, in its order, some hundred at a time."""
    import tensorflow_datasets as tfds

    try:
        # One file after the other: in an order that doesn't depend on how reads interleave.
        config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        examples = builder.as_dataset(split=split, read_config=config, shuffle_files=False)
        chunks = examples.batch(_CHUNK).as_numpy_iterator()
    except NotImplementedError:  # prepared as ArrayRecord
        source = builder.as_data_source(split=split)
        chunks = (
            {
                key: np.stack([source[i][key] for i in range(start, min(start + _CHUNK, len(source)))])
                for key in ("image", "label")
            }
            for start in range(0, len(source), _CHUNK)
        )
    for chunk in chunks:
        images = chunk["image"]
        if image_size is not None and images.shape[1:3] != (image_size, image_size):
            resized = tf.image.resize(images, (image_size, image_size), antialias=True)
            images = np.clip(np.round(resized.numpy()), 0, 255).astype(np.uint8)
        yield {"image": images, "label": np.asarray(chunk["label"])}


def _shards(builder: Any, split: str) -> Listing:
    """The files of a split; their paths tell the version too."""
    root = os.fspath(builder.data_dir_root)
    # A mocked data set has examples, but no splits and no files.
    files = builder.info.splits[split].filepaths if split in builder.info.splits else []
    return list_files(root, [os.path.relpath(file, root) for file in files])


def _encoded(builder: Any, split: str, kept: list[int], notes: list[str]) -> Examples:
    """The examples of the kept classes, in the order of the split, relabelled 0, 1, ... in the order of `kept`.

    Where their labels could not be kept beside them, that is added to `notes`.
    """
    import tensorflow_datasets as tfds

    description = f"{builder.name} {split}"
    decoders = {"image": tfds.decode.SkipDecoding()}
    # A mocked data set has examples, but no splits and no files.
    files = builder.info.splits[split].filepaths if split in builder.info.splits else []
    index = Index(Path(builder.data_dir) / f"care_jax-{split}.npz", [os.fspath(file) for file in files], notes)
    source: RecordSource
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
        labels = index.read(("labels",), lambda: {"labels": read_labels(source, description)})["labels"]
        if len(labels) != len(source):
            raise DataError(f"{index.path} does not belong to {builder.data_dir}: delete it")
    except NotImplementedError:  # prepared as TFRecord
        deserialize = functools.partial(builder.info.features.deserialize_example_np, decoders=decoders)
        source, labels = index_tfrecords(index, deserialize, description)
    num_classes = builder.info.features["label"].num_classes
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= num_classes:
        raise DataError(
            f"{description} has a label outside [0, {num_classes}) in {builder.data_dir}: "
            f"delete {index.path}, which is made anew, and if that does not help prepare the data set again"
        )
    new_label = np.full(num_classes, -1, np.int32)
    new_label[kept] = np.arange(len(kept))
    rows = np.flatnonzero(new_label[labels] >= 0)
    return Examples(RecordImages(source, rows, description), {CLASS: new_label[labels[rows]]})
