"""What a data set consists of, in a few lines of text: for processes that must have read the same one."""

import hashlib
import posixpath
from collections.abc import Iterable

import numpy as np

from care_jax.data.examples import DataSet
from care_jax.data.files import Listing
from care_jax.errors import printable

_PARTS = ("pretrain", "train", "test")
File = tuple[str, int]  # name and size, bytes
_MOST_FOLDERS = 4096  # that are described one by one


def describe(dataset: DataSet) -> dict[str, str]:
    """Of each part: its number of images, its shape and pixels where they are in memory, its labels, and its files.

    Files are described folder by folder, by their names, sizes and order, so that a difference leads to them.

    Returns:
      Text by name; two data sets with equal text give the same batches.
    """
    described = {"data set": dataset.name}
    described |= _folders(dataset.files.values())  # first: what differs among them explains the rest
    for part, listing in dataset.files.items():
        described[f"{part} files in their order"] = _told(zip(listing.names, listing.sizes.tolist(), strict=True))
    described["numbers of classes"] = str(dict(sorted(dataset.num_classes.items())))
    for part in _PARTS:
        examples = getattr(dataset, part)
        described[f"{part} part"] = f"{len(examples):,} images"
        for name, values in sorted(examples.labels.items()):
            described[f"labels {name!r} of the {part} part"] = _sha256(values)
        if examples.resident and not dataset.files:
            described[f"pixels of the {part} part"] = f"{list(examples.pixels.shape)} {_sha256(examples.pixels)}"
    return described


def _folders(listings: Iterable[Listing]) -> dict[str, str]:
    """Whichever part a file is of: one more moves others from part to part."""
    files: dict[str, list[File]] = {}
    for listing in listings:
        for name, size in zip(listing.names, listing.sizes.tolist(), strict=True):
            files.setdefault(posixpath.dirname(name), []).append((name, size))
    if len(files) > _MOST_FOLDERS:
        files = {"all folders": [file for folder in files.values() for file in folder]}
    return {
        f"files in {printable(folder) or 'the data folder'}": _told(sorted(files[folder])) for folder in sorted(files)
    }


def _told(files: Iterable[File]) -> str:
    digest, count, total = hashlib.sha256(), 0, 0
    for name, size in files:
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        count, total = count + 1, total + size
    return f"{count:,} files, {total:,} bytes, names and sizes {digest.hexdigest()[:12]}"


def _sha256(values: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return f"SHA-256 {digest.hexdigest()[:12]}"
