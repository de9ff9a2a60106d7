"""Data sets, and the batches of a step: `load` a data set, draw its rows with `batch_indices`.

    from care_jax import data
    digits = data.load("digits")
    rows = data.batch_indices(seed, step, num_examples=len(digits.pretrain), batch_size=256)
    images = digits.pretrain.images[rows]                            # uint8 [256, 32, 32, 3]

Nothing here imports TensorFlow until a data set or a pipeline that needs it is asked for.
"""

import functools
import os
from collections.abc import Callable, Sequence

from care_jax.data.any_images import image_files, images_below
from care_jax.data.assembly import canvas_shape, whole_shape
from care_jax.data.description import describe
from care_jax.data.device import ResidentImages, put_resident, take
from care_jax.data.digits import load_digits
from care_jax.data.errors import DataError
from care_jax.data.examples import CLASS, DataSet, EncodedImages, Examples
from care_jax.data.fashion import load_fashion
from care_jax.data.image_folder import load_image_folder
from care_jax.data.in_order import batches_in_order
from care_jax.data.indices import batch_indices
from care_jax.data.manifest import check_unchanged, files_changed
from care_jax.data.pipeline import host_batches
from care_jax.data.proteins import LENGTHS, STRIDE, load_proteins
from care_jax.data.skipped import SkippedFiles
from care_jax.data.tfds import load_imagenet, load_small

__all__ = [
    "CLASS",
    "CLOUD_DATA_SETS",
    "DATA_SETS",
    "IMAGE_DATA_SETS",
    "READ_BY_TFDS",
    "DataError",
    "DataSet",
    "EncodedImages",
    "Examples",
    "ResidentImages",
    "SkippedFiles",
    "batch_indices",
    "batches_in_order",
    "canvas_shape",
    "check_unchanged",
    "describe",
    "files_changed",
    "host_batches",
    "image_files",
    "images_below",
    "load",
    "put_resident",
    "take",
    "whole_shape",
]

# Of these TensorFlow Datasets reads all, wherever its data directory is: addresses such as gs:// too.
READ_BY_TFDS = ("cifar10", "cifar100", "stl10")

Root = str | os.PathLike[str] | None

# Name -> its loader, and which arguments of `load` that takes.
DATA_SETS: dict[str, tuple[Callable[..., DataSet], tuple[str, ...]]] = {
    "digits": (load_digits, ("image_size",)),
    "fashion": (load_fashion, ("root", "image_size")),
    "image_folder": (load_image_folder, ("root", "image_size", "resident", "test_fraction")),
    "cifar10": (functools.partial(load_small, "cifar10"), ("root", "image_size", "download")),
    "cifar100": (functools.partial(load_small, "cifar100"), ("root", "image_size", "download")),
    "stl10": (functools.partial(load_small, "stl10"), ("root", "image_size", "download")),
    "imagenet2012": (load_imagenet, ("root", "class_file", "download")),
    "proteins": (load_proteins, ("root", "window_lengths", "window_stride", "test_fraction")),
}
# What those that come with the package are of.
CLOUD_DATA_SETS = ("proteins",)
IMAGE_DATA_SETS = tuple(name for name in DATA_SETS if name not in CLOUD_DATA_SETS)


def load(
    name: str,
    *,
    root: Root = None,
    image_size: int | None = None,
    resident: bool = True,
    class_file: Root = None,
    download: bool = False,
    test_fraction: float | None = None,
    window_lengths: Sequence[int] = LENGTHS,
    window_stride: int = STRIDE,
) -> DataSet:
    """Loads a data set by name. What an argument does not apply to ignores it.

    Args:
      name: a key of `DATA_SETS`: "digits" (always at hand), "image_folder" (yours), or one of TensorFlow Datasets:
        "cifar10", "cifar100", "stl10", "imagenet2012"; or "proteins", clouds of points.
      root: the folder of images, or of protein structures; for TensorFlow Datasets its data directory (None: its
        default, ~/tensorflow_datasets).
      image_size: side of the resident images, pixels (None: 32 for digits, else as they are stored).
      resident: for image_folder: hold decoded images in memory, rather than decode the files batch by batch.
        imagenet2012 always stays encoded; the others are always resident.
      class_file: for imagenet2012: a file of WordNet ids, one a line, of the classes to keep.
      download: let TensorFlow Datasets download what is missing.
      test_fraction: for image_folder without a test folder, and for proteins: the share held out (None: 0.1 of images,
        0.2 of chains).
      window_lengths, window_stride: for proteins: residues of a piece of a chain, and between two beginnings.

    Raises:
      DataError: data missing or unusable, an unknown name, or an argument out of range; a ValueError too, of one line.
    """
    if name not in DATA_SETS:
        raise DataError(f"unknown data set {name!r}; there are {', '.join(DATA_SETS)}")
    if test_fraction is None:
        test_fraction = 0.2 if name in CLOUD_DATA_SETS else 0.1
    arguments = {
        "root": root,
        "image_size": image_size,
        "resident": resident,
        "class_file": class_file,
        "download": download,
        "test_fraction": test_fraction,
        "window_lengths": window_lengths,
        "window_stride": window_stride,
    }
    loader, accepted = DATA_SETS[name]
    try:
        return loader(**{argument: arguments[argument] for argument in accepted})
    except MemoryError as error:
        if name in CLOUD_DATA_SETS:
            raise DataError(f"the clouds of {name} do not fit into memory: choose a larger window_stride") from error
        raise DataError(f"{name} at image_size {image_size} does not fit into memory: choose a smaller one") from error
