"""What every data set is once loaded: examples, images or clouds of points, and their labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from care_jax.data.errors import DataError, some
from care_jax.data.files import Listing
from care_jax.data.skipped import SkippedFiles

# The labelling that says what an image shows; a data set names others itself (the hue of the digits).
CLASS = "class"


@runtime_checkable
class EncodedImages(Protocol):
    """Images that stay compressed on disk until a batch needs them; any row can be read at any time, by any thread."""

    def __len__(self) -> int:
        """Number of images n."""

    def read(self, index: int) -> bytes:
        """The encoded bytes (JPEG, PNG, ...) of image `index` in [0, n)."""

    def name(self, index: int) -> str:
        """Where image `index` lies, for messages to people."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images, or clouds of points, and their labels, in a fixed order.

    Attributes:
      images: uint8 array [n, h, w, 3] (resident in memory) or `EncodedImages` of length n; or clouds, float32
        [n, L, 4]: of each of up to L points its coordinates and 1, and four zeros where there is none.
      labels: name of a labelling -> int32 array [n]; empty where nothing is labelled.
      names: of each, for people; empty where they have none.

    Raises:
      DataError: images that are neither, an array of another type or shape; the message names the first value to blame,
        where one is.
    """

    images: np.ndarray | EncodedImages
    labels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.images, np.ndarray | EncodedImages):
            raise DataError(
                "images must be a NumPy array, or have len, read(index) and name(index), as EncodedImages has; got "
                f"{type(self.images).__name__}: np.asarray makes an array of a list, or of one of another library's"
            )
        if self.clouds:
            _check_clouds(self.pixels)
        elif self.resident:
            _check_images(self.pixels)
        if self.names and len(self.names) != len(self):
            raise DataError(f"there are {len(self.names)} names of {len(self)} examples")
        for name, values in self.labels.items():
            _check_labels(name, values, len(self))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> "Examples":
        """Those with these numbers, [m]; files stay where they are."""
        images = self.pixels[rows] if self.resident else _Some(self.encoded, rows)
        names = [self.names[row] for row in rows] if self.names else ()
        return Examples(images, {name: labels[rows] for name, labels in self.labels.items()}, names)

    @property
    def resident(self) -> bool:
        """Whether the pixels are in memory."""
        return isinstance(self.images, np.ndarray)

    @property
    def clouds(self) -> bool:
        """Whether they are clouds of points."""
        return isinstance(self.images, np.ndarray) and self.images.ndim == 3 and self.images.dtype.kind == "f"

    @property
    def noun(self) -> str:
        """What they are called in messages: "images" or "clouds"."""
        return "clouds" if self.clouds else "images"

    @property
    def pixels(self) -> np.ndarray:
        """The images [n, h, w, 3] of resident examples, or the clouds [n, L, 4]; a TypeError for others."""
        if not isinstance(self.images, np.ndarray):
            raise TypeError("encoded images have no pixels before they are decoded")
        return self.images

    @property
    def encoded(self) -> EncodedImages:
        """The images of encoded examples; a TypeError for others."""
        if isinstance(self.images, np.ndarray):
            raise TypeError("resident images are not encoded")
        return self.images


@dataclasses.dataclass(frozen=True)
class _Some:
    """Some of the images."""

    images: EncodedImages
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> bytes:
        return self.images.read(int(self.rows[index]))

    def name(self, index: int) -> str:
        return self.images.name(int(self.rows[index]))


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set, ready to train and to be evaluated on.

    Attributes:
      name: what `load` was asked for.
      pretrain: what the self-supervised objective sees.
      train: labelled examples the probes are fitted on.
      test: held-out examples, never trained on.
      num_classes: name of a labelling, `CLASS` first among them -> number of its classes; empty turns the probes off.
      skipped: files found unusable so far; the pipeline adds to it as it meets more.
      files: the files it is made of, in order, by the part or split they make; empty where they are not known.
      class_names: name of a labelling -> names of its classes, in the order of the labels, where they are known.
      notes: what was chosen or left out when it was loaded, each in words.

    Raises:
      DataError: a part is empty, or its labels or names don't fit `num_classes`; the message names the part and the
        value.
    """

    name: str
    pretrain: Examples
    train: Examples
    test: Examples
    num_classes: dict[str, int]
    skipped: SkippedFiles = dataclasses.field(default_factory=SkippedFiles)
    files: dict[str, Listing] = dataclasses.field(default_factory=dict)
    class_names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, names in self.class_names.items():
            if len(names) != self.num_classes.get(name):
                raise DataError(
                    f"{self.name} has {self.num_classes.get(name)} classes {name!r}, but {len(names)} names"
                )
        for part in ("pretrain", "train", "test"):
            examples: Examples = getattr(self, part)
            if not len(examples):
                raise DataError(f"the {part} part of {self.name} holds no {examples.noun}")
            if examples.clouds != self.clouds:
                raise DataError(f"the parts of {self.name} are clouds and images: make all of them one kind")
            for name, values in examples.labels.items():
                count = self.num_classes.get(name)
                wrong = np.flatnonzero((values < 0) | (values >= (np.inf if count is None else count)))
                if len(wrong):
                    allowed = "at least 0" if count is None else f"in [0, {count})"
                    raise DataError(
                        f"labels {name!r} of the {part} part of {self.name} must be {allowed}; "
                        f"{name!r}[{wrong[0]}] is {values[wrong[0]]}"
                    )
            lacking = self.num_classes.keys() - examples.labels.keys()
            if lacking and part != "pretrain":  # which no probe is fitted on
                raise DataError(f"the {part} part of {self.name} has no labels {min(lacking)!r}")

    @property
    def clouds(self) -> bool:
        """Whether it is one of clouds of points."""
        return self.pretrain.clouds

    def description(self) -> str:
        """What it holds and what was left out, for the line at the start of a run: a wrong guess should show.

        >>> images = Examples(np.zeros((3, 8, 8, 3), np.uint8), {"class": np.array([0, 1, 1], np.int32)})
        >>> names = {"class": ["cat", "dog"]}
        >>> DataSet("pets", images, images, images, {"class": 2}, class_names=names, notes=["1 folder"]).description()
        '3 training and 3 test images in 2 classes (cat, dog); 1 folder'
        """
        classes = [self._classes(name) for name in self.num_classes]
        held = f"{len(self.pretrain)} training and {len(self.test)} test {self.pretrain.noun}"
        return "; ".join([f"{held} in {', '.join(classes)}" if classes else f"{held}, unlabelled", *self.notes])

    def _classes(self, name: str) -> str:
        names = self.class_names.get(name, ())
        which = f" ({some(names)})" if names else ""
        return f"{self.num_classes[name]} classes{'' if name == CLASS else ' of ' + name}{which}"


def _check_labels(name: str, values: np.ndarray, count: int) -> None:
    """Raises a DataError unless they are int32 [count]."""
    if not isinstance(values, np.ndarray):
        raise DataError(f"labels {name!r} must be an int32 array [{count}]; got {type(values).__name__}")
    if values.shape != (count,):
        raise DataError(f"labels {name!r} must be int32 [{count}], one an image; got shape {list(values.shape)}")
    if values.dtype != np.int32:
        first = f", {name!r}[0] is {values[0]}" if count else ""
        raise DataError(f"labels {name!r} must be int32 [{count}]; got {values.dtype}{first}")


def _check_images(images: np.ndarray) -> None:
    """Raises a DataError unless they are uint8 [n, h, w, 3], h and w above 0."""
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        # Told apart from a wrong type: scaling to bytes would hide it.
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(images))[0])
        raise DataError(f"images must be finite; images{list(first)} is {images[first]}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape[1:]:
        raise DataError(
            f"images must be uint8 [n, h, w, 3] with h and w above 0, got {images.dtype} {list(images.shape)}"
        )


def _check_clouds(clouds: np.ndarray) -> None:
    """Raises a DataError unless they are float32 [n, L, 4], each of a point or more, as `Examples` has them."""
    if clouds.dtype != np.float32 or clouds.shape[-1] != 4 or not clouds.shape[1]:
        raise DataError(f"clouds must be float32 [n, L, 4] with L above 0, got {clouds.dtype} {list(clouds.shape)}")
    if not np.isfinite(clouds).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(clouds))[0])
        raise DataError(f"clouds must be finite; clouds{list(first)} is {clouds[first]}")
    is_point = clouds[..., 3] == 1
    padded = (clouds == 0).all(axis=-1)
    if not (is_point | padded).all():
        first = tuple(int(i) for i in np.argwhere(~(is_point | padded))[0])
        raise DataError(
            f"a row of a cloud must end with 1, or be all 0 where there is no point; clouds{list(first)} is "
            f"{clouds[first].tolist()}"
        )
    if not is_point.any(axis=1).all():
        raise DataError(f"clouds must have a point; clouds[{int(is_point.any(axis=1).argmin())}] has none")
