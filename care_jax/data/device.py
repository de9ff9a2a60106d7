"""Small data sets live on the device whole: a batch is then a gather inside the step, and the host sends indices."""

import dataclasses
from functools import partial

import jax

from care_jax.augment import unit_range
from care_jax.data.examples import Examples


@partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True)
class ResidentImages:
    """All images of a data set, n of one size, or all clouds.

    Attributes:
      rows: uint8 [n, h * w * 3], an image a row: of [n, h, w, 3] a TPU makes a copy in another layout, of all images
        in every step, before it gathers any. Of clouds float32 [n, L * 4].
      shape: of one, (h, w, 3) or (L, 4).
    """

    rows: jax.Array
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)


def put_resident(examples: Examples, sharding: jax.sharding.Sharding | None = None) -> ResidentImages:
    """Copies the images to the device, or with a replicated sharding to every device.

    Args:
      examples: resident.
      sharding: where to; None is the default device.

    Raises:
      ValueError: the examples are encoded, so they have no pixels yet.
    """
    if not examples.resident:
        raise ValueError("encoded images can't be put on a device: load with resident=True, or train with host_batches")
    shape = examples.pixels.shape[1:]
    rows = examples.pixels.reshape(len(examples), -1)
    if sharding is None:
        return ResidentImages(jax.device_put(rows), shape)
    # With several processes, device_put would send all pixels around to compare them.
    return ResidentImages(jax.make_array_from_process_local_data(sharding, rows), shape)


def take(images: ResidentImages, indices: jax.Array) -> jax.Array:
    """Rows of a resident data set as floats, for use inside a jitted step.

    Args:
      images: n of them, h by w, or clouds.
      indices: int32 [b], in [0, n).

    Returns:
      float32 [b, h, w, 3] in [0, 1]; clouds as they are, [b, L, 4].
    """
    return unit_range(images.rows[indices].reshape(-1, *images.shape))
