"""MoCo-v2: queries against the keys of a momentum encoder, and against a queue of the keys of earlier batches."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from care_jax import losses
from care_jax.methods import momentum as momentum_encoder
from care_jax.methods.base import TEMPERATURE, Method, Outputs, Terms, Update, Views
from care_jax.models import Networks, normalize
from care_jax.rules import SHARE, at_least, setting


class MoCo(Method):
    """InfoNCE of the first views, the queries, against the second views' keys and the queue: the term `info_nce`.

    Batch norm cannot leak between a query and its key. In the official code both would be normalised by the same
    images' statistics, which tell the key from the queue; it shuffles images between GPUs to prevent that. Here the
    momentum encoder is in evaluation mode: it normalises by running averages that follow the trained encoder's with the
    same momentum (Cai et al., "Exponential Moving Average Normalization", CVPR 2021). A key is a function of its own
    image alone, whatever the batch, the micro-batch and the devices.

    The state: `target`, the momentum encoder's variables; `queue` [k, d], unit rows, random ones at first; `position`,
    the row that is overwritten next, that of the oldest key.

    Source: He et al., CVPR 2020; Chen et al., 2020 (v2: MLP head, stronger augmentation), not symmetrised.
    """

    name = "moco"
    num_views = 1
    temperature: float = TEMPERATURE
    momentum: float = setting(0.99, SHARE, "share of the momentum encoder that an update keeps")
    queue_size: int = setting(65536, at_least(1), "keys of earlier batches that are kept as negatives")

    def init(self, key: jax.Array, variables: Mapping[str, Any], size: int) -> dict[str, Any]:
        dtype = jnp.result_type(*jax.tree.leaves(variables["params"]))
        return {
            "target": momentum_encoder.copy(variables),
            "queue": normalize(jax.random.normal(key, (self.queue_size, size), dtype)),
            "position": jnp.zeros((), jnp.int32),
        }

    def embed(self, networks: Networks, views: Views, outputs: Outputs, state: Any) -> Outputs:
        target = networks.frozen(state["target"], train=False)
        return {"keys": jax.lax.stop_gradient(normalize(target.project(target.features(views.invariance[1:]))))}

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        queries, keys = outputs["embeddings"][0], outputs["keys"][0]
        return {"info_nce": losses.queue_info_nce(queries, keys, state["queue"], temperature=self.temperature)}

    def after_update(self, state: Any, update: Update) -> dict[str, Any]:
        queue, position = enqueue(state["queue"], state["position"], update.outputs["keys"][0])
        target = momentum_encoder.follow(state["target"], update.variables, self.momentum)
        return {"target": target, "queue": queue, "position": position}


def enqueue(queue: jax.Array, position: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Overwrites the oldest rows of a ring: key i goes to row (position + i) mod k.

    Args:
      queue: [k, d].
      position: int32 scalar, the row of the oldest key.
      keys: [b, d], any b: a batch wraps the end of the queue, and of more keys than rows the last k stay.

    Returns:
      The queue and the position after it.
    """
    num_rows, num_keys = len(queue), len(keys)
    kept = min(num_keys, num_rows)  # rows written twice would be written in no fixed order
    rows = (position + num_keys - kept + jnp.arange(kept)) % num_rows
    return queue.at[rows].set(keys[num_keys - kept :]), (position + num_keys) % num_rows
