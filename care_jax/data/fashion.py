"""Fashion-MNIST in colour: 70,000 photographs of clothes, each tinted with a hue of its own, as the digits are.

Debian packages it, `apt-get install dataset-fashion-mnist`; torchvision's download is read too.
"""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from care_jax.data.examples import CLASS, DataError, DataSet, Examples
from care_jax.data.tints import HUE, HUE_CLASSES, hue_classes, tinted
from care_jax.storage import local_path

PACKAGED = Path("/usr/share/datasets/fashion-mnist")
_GET_IT = "apt-get install dataset-fashion-mnist, or give the folder of the idx files, --config.data.root="
# The data set is fixed: the same tints for every run, whatever the run's seed.
_SEED = 28
_NAMES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
_FILES = {"train": "train", "test": "t10k"}
_BELOW = (".", "raw", "FashionMNIST/raw")  # where torchvision puts them below the folder that it is given
_UNSIGNED_BYTES = 8  # the third byte of an idx file


def load_fashion(root: str | os.PathLike[str] | None = None, image_size: int | None = None) -> DataSet:
    """The tinted photographs.

    Args:
      root: folder of the four idx files, packed with gzip or not; None: where Debian's package has them.
      image_size: output side s, pixels; 28, the files' own, if None.

    Returns:
      A resident `DataSet` of [s, s, 3] images, 60,000 to train on and 10,000 to test on, as published. Labels: "class",
      0..9; "hue", as of the digits.

    Raises:
      DataError: no such files, one that is damaged or is something else, or an image_size below 1.
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size must be >= 1, got {image_size}")
    folder = PACKAGED if root is None else local_path(os.fspath(root), "data.root")
    rng, parts = np.random.default_rng(_SEED), {}
    for part, begins in _FILES.items():
        images = _read(_file(folder, f"{begins}-images-idx3-ubyte"), 3)
        classes = _read(_file(folder, f"{begins}-labels-idx1-ubyte"), 1)
        if len(images) != len(classes) or not len(images) or classes.max() >= len(_NAMES):
            raise DataError(
                f"{folder} holds {len(images):,} {part} images and {len(classes):,} labels that are no Fashion-MNIST: "
                f"as many of both, classes 0 to 9; {_GET_IT}"
            )
        hue = rng.random(len(images))
        pixels = tinted(_resized(images, image_size), hue)
        parts[part] = Examples(pixels, {CLASS: classes.astype(np.int32), HUE: hue_classes(hue)})
    counts = {CLASS: len(_NAMES), HUE: HUE_CLASSES}
    return DataSet("fashion", parts["train"], parts["train"], parts["test"], counts, class_names={CLASS: _NAMES})


def _file(folder: Path, name: str) -> Path:
    for below in _BELOW:
        for suffix in ("", ".gz"):
            if (folder / below / f"{name}{suffix}").is_file():
                return folder / below / f"{name}{suffix}"
    raise DataError(f"the fashion data set: {folder} has no {name}, nor {name}.gz; {_GET_IT}")


def _read(file: Path, dimensions: int) -> np.ndarray:
    """An idx file: two zeros, the type, the number of dimensions, each as four bytes, then the bytes."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} can't be read ({error}): {_GET_IT}") from error
    start = 4 + 4 * dimensions
    sizes = np.frombuffer(content[4:start], ">u4").astype(np.int64) if len(content) >= start else np.zeros(1, int)
    is_idx = content[:4] == bytes((0, 0, _UNSIGNED_BYTES, dimensions)) and len(content) - start == sizes.prod()
    if not is_idx or (dimensions == 3 and 0 in sizes):
        raise DataError(f"{file} is no whole idx file of bytes in {dimensions} dimensions: {_GET_IT}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


def _resized(images: np.ndarray, size: int | None) -> np.ndarray:
    """[n, h, w] uint8 -> [n, size, size], bicubic; as they are for None."""
    if size is None or images.shape[1:] == (size, size):
        return images
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in images]
    )
