"""Everything that a training run carries from one step to the next, as one visible pytree."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from care_jax import models
from care_jax.augment import ViewPlan
from care_jax.methods import Objective
from care_jax.train.placements import example


@struct.dataclass
class TrainState:
    """The state after `step` updates.

    Attributes:
      step: int32 scalar, number of updates made; with the run's seed it determines the next batch and its draws.
      params: parameters of the encoder, float32.
      batch_stats: running statistics of batch norm, float32.
      optimizer_state: of the optax transformation.
      method_state: what the base objective keeps beside the parameters: a momentum encoder, a queue; often nothing.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    optimizer_state: optax.OptState
    method_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `encoder.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    encoder: models.Encoder,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    plan: ViewPlan,
    *,
    seed: int,
    backbone: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
      encoder: whose parameters depend on nothing but itself and the seed, whatever the objective.
      objective: its heads get their parameters, its method its state.
      optimizer: as `optim.make_optimizer` returns it.
      plan: of the views, for their shapes.
      seed: of the parameters; the same seed gives the same parameters on any number of devices.
      backbone: {"params": ..., "batch_stats": ...} that the backbone has instead of drawn ones, and so have what the
        method copies of it.
    """
    key = jax.random.key(seed)
    views = example(plan)
    (_, embeddings), created = encoder.init_with_output(key, views.invariance[0], train=True)
    # A head and a backbone without batch norm have no such collection.
    variables = {"params": created["params"], "batch_stats": created.get("batch_stats", {})}
    for collection, values in (backbone or {}).items():
        variables[collection] = {**variables[collection], "backbone": values}
    method_state = objective.method.init(jax.random.fold_in(key, 1), variables, embeddings.shape[-1])
    if objective.heads:
        networks = models.Networks.of(encoder, objective.heads)
        variables = models.init_heads(
            networks, variables, jax.random.fold_in(key, 2), lambda bound: objective.embed(bound, views, method_state)
        )
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        **variables,
        optimizer_state=optimizer.init(variables["params"]),
        method_state=method_state,
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
