"""Small data sets live on the device whole: a batch is then a gather inside the step, and the host sends indices."""

import jax
import jax.numpy as jnp
import numpy as np

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
    if not isinstance(examples.images, np.ndarray):
        raise ValueError("encoded images can't be put on a device: load with resident=True, or train with host_batches")
    if sharding is None:
        return jax.device_put(examples.images)
    # With several processes, device_put would send all pixels around to compare them.
    return jax.make_array_from_process_local_data(sharding, examples.images)


def take(images: jax.Array, indices: jax.Array) -> jax.Array:
    """Rows of a resident data set as floats, for use inside a jitted step.

    Args:
      images: uint8 [n, h, w, 3].
      indices: int32 [b], in [0, n).

    Returns:
      float32 [b, h, w, 3] in [0, 1].
    """
    return images[indices].astype(jnp.float32) / 255.0
