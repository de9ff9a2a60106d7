"""What a data set consists of, in a few lines of text: for processes that must have read the same one."""

import hashlib
import posixpath
from collections.abc import Sequence

import numpy as np

from care_jax.data.examples import DataSet
from care_jax.data.files import Listing
from care_jax.errors import printable

_PARTS = ("pretrain", "train", "test")
_MOST_FOLDERS = 4096  # that are described one by one


def describe(dataset: DataSet) -> dict[str, str]:
    """Of each part: its number of images, its shape and pixels where they are in memory, its labels, and its files.

    Files are described folder by folder, by their names, sizes and order, so that a difference leads to them.

    Returns:
      Text by name; two data sets with equal text give the same batches.
    """
    described = {"data set": dataset.name}
    for part, listing in dataset.files.items():  # first: what differs among them explains the rest
        described |= _describe_files(f"{part} files", listing)
    described["numbers of classes"] = str(dict(sorted(dataset.num_classes.items())))
    for part in _PARTS:
        examples = getattr(dataset, part)
        described[f"{part} part"] = f"{len(examples):,} images"
        for name, values in sorted(examples.labels.items()):
            described[f"labels {name!r} of the {part} part"] = _sha256(values)
        if isinstance(examples.images, np.ndarray) and not dataset.files:
            described[f"pixels of the {part} part"] = f"{list(examples.images.shape)} {_sha256(examples.images)}"
    return described


def _describe_files(what: str, listing: Listing) -> dict[str, str]:
    sizes = listing.sizes.tolist()
    folders: dict[str, list[int]] = {}
    for row, name in enumerate(listing.names):
        folders.setdefault(posixpath.dirname(name), []).append(row)
    described = {}
    if len(folders) <= _MOST_FOLDERS:
        for folder, rows in sorted(folders.items()):
            described[f"{what} in {printable(folder) or 'the data folder'}"] = _told(listing.names, sizes, rows)
    described[f"{what} in their order"] = _told(listing.names, sizes, range(len(listing)))
    return described


def _told(names: Sequence[str], sizes: Sequence[int], rows: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{names[row]}\0{sizes[row]}\n".encode("utf-8", "surrogateescape"))
    total = sum(sizes[row] for row in rows)
    return f"{len(rows):,} files, {total:,} bytes, names and sizes {digest.hexdigest()[:12]}"


def _sha256(values: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return f"SHA-256 {digest.hexdigest()[:12]}"
