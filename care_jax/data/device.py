"""Small data sets live on the device whole: a batch is then a gather inside the step, and the host sends indices."""

import jax

from care_jax.augment import unit_range
from care_jax.data.examples import Examples


def put_resident(examples: Examples, sharding: jax.sharding.Sharding | None = None) -> jax.Array:
    """Copies the images to the device, or with a replicated sharding to every device, as uint8.

    Args:
      examples: resident.
      sharding: where to; None is the default device.

    Returns:
      uint8 [n, h, w, 3].

    Raises:
      ValueError: the examples are encoded, so they have no pixels yet.
    """
    if not examples.resident:
        raise ValueError("encoded images can't be put on a device: load with resident=True, or train with host_batches")
    if sharding is None:
        return jax.device_put(examples.pixels)
    # With several processes, device_put would send all pixels around to compare them.
    return jax.make_array_from_process_local_data(sharding, examples.pixels)


def take(images: jax.Array, indices: jax.Array) -> jax.Array:
    """Rows of a resident data set as floats, for use inside a jitted step.

    Args:
      images: uint8 [n, h, w, 3].
      indices: int32 [b], in [0, n).

    Returns:
      float32 [b, h, w, 3] in [0, 1].
    """
    return unit_range(images[indices])
