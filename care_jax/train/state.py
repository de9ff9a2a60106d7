"""Everything that a training run carries from one step to the next, as one visible pytree."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, struct


@struct.dataclass
class TrainState:
    """The state after `step` updates.

    Attributes:
      step: int32 scalar, number of updates made; with the run's seed it determines the next batch and its draws.
      params: parameters of the encoder, float32.
      batch_stats: running statistics of batch norm, float32.
      optimizer_state: of the optax transformation.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    optimizer_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """What `encoder.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    encoder: linen.Module, optimizer: optax.GradientTransformation, *, seed: int, image_size: int
) -> TrainState:
    """The state before the first step.

    Args:
      encoder: `models.Encoder`.
      optimizer: as `optim.make_optimizer` returns it.
      seed: of the parameters; the same seed gives the same parameters on any number of devices.
      image_size: pixels a side.
    """
    images = jnp.zeros((2, image_size, image_size, 3), jnp.float32)
    variables = encoder.init(jax.random.key(seed), images, train=True)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A head and a backbone without batch norm would have no such collection.
        batch_stats=variables.get("batch_stats", {}),
        optimizer_state=optimizer.init(params),
    )


def params_sha256(params: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of the parameters, in the order of their names.

    Args:
      params: a pytree of arrays, on any device; each is read in C order.

    Returns:
      64 hexadecimal digits; equal for bit-identical parameters and for them alone.
    """
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
