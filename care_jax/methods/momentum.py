"""A momentum encoder: a second set of the encoder's variables that follows the trained ones, and sees no gradient."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

ENCODER = ("backbone", "head")


def copy(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's part of {"params": ..., "batch_stats": ...}, in arrays of its own."""
    return jax.tree.map(jnp.array, _of_encoder(variables))


def follow(target: Mapping[str, Any], variables: Mapping[str, Any], momentum: float | jax.Array) -> dict[str, Any]:
    """target <- momentum * target + (1 - momentum) * variables, for parameters and running averages alike.

    Args:
      target: the momentum encoder's variables.
      variables: the trained networks'; other heads' are left out.
      momentum: in [0, 1]; 1 keeps the target as it is.
    """
    return optax.incremental_update(_of_encoder(variables), dict(target), 1.0 - momentum)


def _of_encoder(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {
        collection: {name: value for name, value in networks.items() if name in ENCODER}
        for collection, networks in variables.items()
    }
