"""A data set of which only the size is known: that is all of the data that a step's program depends on."""

import dataclasses

import ml_collections

from care_jax.data import DataSet, Examples
from care_jax.data.folder_layout import find_layout
from care_jax.data.proteins import load_proteins
from care_jax.errors import UserError
from care_jax.experiment.inputs import resident_shape
from care_jax.experiment.settings import of_clouds
from care_jax.storage import local_path

# Images that are pre-trained on. stl10: its training images and those without labels. Those of imagenet2012 are 1,000
# classes; of a class file the 100 classes of the CMC repository, with which the paper's ImageNet100 has this size.
SIZES = {
    "digits": 1_438,
    "fashion": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "stl10": 105_000,
    "imagenet2012": 1_281_167,
}
_IMAGENET100 = 126_689


class SizeError(UserError, ValueError):
    """The number of training images is not known."""


@dataclasses.dataclass(frozen=True)
class StandIn:
    """`EncodedImages` that can be counted, and no more.

    Attributes:
      count: how many.
      source: where the number comes from, in words.
    """

    count: int
    source: str

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> bytes:
        raise TypeError("a stand-in has no images")

    def name(self, index: int) -> str:
        return f"image {index}"


def images(config: ml_collections.ConfigDict, num_examples: int | None = None) -> StandIn:
    """The training images of the data set that a configuration names, none of which is read; or its clouds of points.

    Args:
      config: of the run.
      num_examples: how many there are; None: as many as are known of a data set by its name, or lie in a folder. How
        many pieces of proteins there are depends on the split: their structures are read.

    Raises:
      SizeError: it is neither given nor known.
      DataError: as the folder's loader says.
      PathError: the folder is an address.
    """
    if num_examples is not None:
        return StandIn(num_examples, "given")
    settings = config.data
    root = settings.root
    if root is not None and settings.name in ("image_folder", "proteins"):
        root = str(local_path(root, "config.data.root"))
    if settings.name == "image_folder" and root is not None:
        try:
            layout = find_layout(root, settings.test_fraction)
        except OSError as error:
            raise SizeError(
                f"can't count the images in {settings.root} ({error.strerror}): give the folder, or their number, "
                "--num_examples=10000 for instance"
            ) from error
        return StandIn(len(layout.train.listing), "files in the folder")
    if settings.name == "proteins":
        loaded = load_proteins(
            root,
            window_lengths=settings.window_lengths,
            window_stride=settings.window_stride,
            test_fraction=settings.test_fraction,
        )
        return StandIn(len(loaded.pretrain), "pieces of the structures")
    if settings.name == "imagenet2012" and settings.get("class_file") is not None:
        return StandIn(_IMAGENET100, "assumed: ImageNet100's classes; --num_examples changes it")
    if settings.name in SIZES:
        return StandIn(SIZES[settings.name], "the data set's")
    noun = "clouds" if of_clouds(config) else "images"
    raise SizeError(
        f"the number of training {noun} of {settings.name} is not known: give --num_examples=10000 for instance"
        + (", or the folder, --config.data.root=my_images" if settings.name == "image_folder" else "")
    )


def image_shape(config: ml_collections.ConfigDict) -> tuple[int, ...] | None:
    """[h, w, 3] of images that are in memory, [L, 4] of clouds; None where they stay encoded."""
    on_device = config.augment.placement == "device"
    if config.data.name == "imagenet2012" or (config.data.name == "image_folder" and not on_device):
        return None
    return resident_shape(config)


def dataset(name: str, counted: StandIn) -> DataSet:
    """A data set of such examples."""
    examples = Examples(counted)
    return DataSet(name, pretrain=examples, train=examples, test=examples, num_classes={})
