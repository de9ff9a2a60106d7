"""Which images, or clouds, an encoder is measured on: a folder's or a data set's, so many, drawn with a seed."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from care_jax import data
from care_jax.command_line import UsageError, say
from care_jax.configs import base
from care_jax.data import DataError
from care_jax.embed import image_set
from care_jax.embed.image_set import ImageSet
from care_jax.evaluate.transfer import config_on
from care_jax.experiment.inputs import stored_side
from care_jax.experiment.settings import of_clouds
from care_jax.measure.encoders import Encoder
from care_jax.trained import Trained

_DIGITS = 32  # pixels a side that they are loaded at: they are 8 x 8, larger squares only take time and memory


class Images(NamedTuple):
    """Some images, decoded when they are needed; or some clouds.

    Attributes:
      chosen: all that there are.
      rows: [n] which of them are taken, in their order.
      side: of the central squares that encoded images are brought to, pixels.
    """

    chosen: ImageSet
    rows: np.ndarray
    side: int

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """uint8 [b, h, w, 3] or clouds [b, L, 4], the last of them filled up, and which are real, [b]."""
        examples = self.chosen.examples.take(self.rows)
        for images, _, kept in data.batches_in_order(
            examples, side=self.side, batch_size=size, skipped=self.chosen.skipped
        ):
            yield images, kept


def draw(chosen: ImageSet, encoder: Encoder, *, num_images: int, seed: int, side: int | None = None) -> Images:
    """At most `num_images` of them; says how many.

    Args:
      chosen: all that there are.
      encoder: whose size of images encoded ones are decoded for.
      num_images, seed: as the flags.
      side: as of `Images`; None for what the encoder needs, none of clouds.

    Raises:
      DataError: there are fewer than 4.
    """
    count = len(chosen.examples)
    if count < 4:
        raise DataError(f"{chosen.name} are too few: a measurement takes 4 at least")
    rows = np.arange(count)
    if count > num_images:
        rows = np.sort(np.random.default_rng(seed).choice(count, num_images, replace=False))
        say(f"{num_images:,} of {chosen.name}, drawn with seed {seed}; --num_images takes more")
    if side is None:
        side = 0 if encoder.image_size is None else round(encoder.image_size / encoder.center_fraction)
    return Images(chosen, rows, side)


def of_run(
    model: Trained, config: ml_collections.ConfigDict, images: str | None, part: str
) -> tuple[ImageSet, int | None]:
    """As `embed` takes them, --images or a --part of the data set; and the side that encoded ones are brought to."""
    on_device = config.augment.placement == "device" and not of_clouds(config)
    return image_set.chosen(config, images, part, model), stored_side(config) if on_device else None


def anywhere(encoder: Encoder, images: str | None, on: str | None, part: str) -> ImageSet:
    """For an encoder without images of its own: the folder `images`, or a part of the data set `on`.

    Raises:
      UsageError: there is neither, or both, or no such data set.
      DataError: as its loader says.
    """
    if (images is None) == (on is None):
        raise UsageError("say which images: --images=FOLDER, or --data=digits or another data set by name")
    if images is not None:
        return image_set.below(Path(images).expanduser())
    config = base.get_config()
    config.data.image_size = encoder.image_size
    config.evaluate.center_fraction = encoder.center_fraction
    if part not in image_set.PARTS:
        raise UsageError(f"--part={part}: give one of {', '.join(image_set.PARTS)}")
    try:
        config = config_on(config, str(on))
    except UsageError as error:
        raise UsageError(str(error).replace(f"--on={on}", f"--data={on}")) from error
    if config.data.name == "digits":
        config.data.stored_size = min(config.data.stored_size, _DIGITS)
    return image_set.part_of(config, part)
