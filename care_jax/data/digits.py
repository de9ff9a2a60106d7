"""Tinted hand-written digits: a small data set that is always at hand, with one label to keep and one to follow.

The 1,797 digits of 8 x 8 pixels that ship with scikit-learn, enlarged and each tinted with a hue of its own. What the
digit is should survive every augmentation; what its hue is moves with colour jitter, and an embedding that is
equivariant still carries it.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from care_jax.data.examples import CLASS, DataError, DataSet, Examples
from care_jax.data.tints import HUE, HUE_CLASSES, hue_classes, tinted

# The data set is fixed: the same tints and the same split for every run, whatever the run's seed.
_SEED = 1797
_TEST_FRACTION = 0.2


def load_digits(image_size: int | None = None) -> DataSet:
    """The tinted digits.

    Args:
      image_size: output side s, pixels; 32 if None.

    Returns:
      A resident `DataSet` of [s, s, 3] images: 1,438 to train on and 359 to test on, in the same proportion for every
      digit. Labels: "class", the digit 0..9; "hue", the bin floor(8 * hue) of the drawn hue in [0, 1) turns, so that
      bin 0 starts at red, and green (1/3) and blue (2/3) lie in bins 2 and 5.

    Raises:
      DataError: scikit-learn, which brings the images, is not installed; or an image_size below 1.
    """
    image_size = 32 if image_size is None else image_size
    if image_size < 1:
        raise DataError(f"image_size must be >= 1, got {image_size}")
    scans, digits = _scans()
    rng = np.random.default_rng(_SEED)
    hue = rng.random(len(scans))
    images = tinted(_enlarge(scans / 16.0, image_size), hue)
    labels = {CLASS: digits.astype(np.int32), HUE: hue_classes(hue)}

    held_out = np.zeros(len(images), bool)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels[CLASS] == digit))
        held_out[members[: round(_TEST_FRACTION * len(members))]] = True
    train, test = (
        Examples(images[rows], {name: values[rows] for name, values in labels.items()})
        for rows in (~held_out, held_out)
    )
    names = {CLASS: [str(digit) for digit in range(10)]}
    return DataSet("digits", train, train, test, {CLASS: 10, HUE: HUE_CLASSES}, class_names=names)


def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 8, 8], from 0 to 16, and what digit each is, [n]; importing scikit-learn takes ten times as long."""
    found = importlib.util.find_spec("sklearn")
    if found is None:
        raise DataError("the digits data set needs scikit-learn, which brings its images: pip install scikit-learn")
    file = Path(found.origin or "").with_name("datasets") / "data" / "digits.csv.gz"
    if not file.exists():  # another version keeps it elsewhere
        from sklearn import datasets

        bundled = datasets.load_digits()
        return bundled.images, bundled.target
    with gzip.open(file, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


def _enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """[n, h, w] in [0, 1] -> [n, size, size] in [0, 1], bicubic."""
    resized = [
        np.asarray(Image.fromarray(image.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
        for image in images
    ]
    return np.clip(np.stack(resized), 0.0, 1.0)
