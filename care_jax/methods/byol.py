"""BYOL: predict, from one view's projection, what a slowly following encoder makes of the other view. No negatives."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from care_jax import losses
from care_jax.methods import momentum as momentum_encoder
from care_jax.methods.base import Method, Outputs, Terms, Update, Views
from care_jax.models import Networks


def byol(*, predictor: linen.Module, num_steps: int, momentum: float = 0.996) -> Method:
    """Squared distance of unit predictions and unit targets, over both directions: the term `prediction`.

    The targets come from a momentum encoder in training mode, as in the original: each view is normalised by its own
    batch statistics. It sees no gradient. Its momentum rises from `momentum` to 1 along half a cosine.

    The state: `target`, the momentum encoder's variables.

    Args:
      predictor: a head from projections to projections.
      num_steps: K, length of the run.
      momentum: at the start; step k keeps 1 - (1 - momentum) (cos(pi k / K) + 1) / 2 of the momentum encoder.

    Source: Grill et al., NeurIPS 2020, equations 1 and 2 and section 3.2 (the schedule).
    """

    def init(key: jax.Array, variables: Mapping[str, Any], size: int) -> dict[str, Any]:
        del key, size
        return {"target": momentum_encoder.copy(variables)}

    def embed(networks: Networks, views: Views, outputs: Outputs, state: Any) -> Outputs:
        target = networks.frozen(state["target"], train=True)
        return {
            "predictions": networks.apply("predictor", outputs["projections"]),
            "targets": jax.lax.stop_gradient(target.project(target.features(views.invariance))),
        }

    def loss(outputs: Outputs, state: Any) -> Terms:
        del state
        predictions, targets = outputs["predictions"], outputs["targets"]
        return {"prediction": losses.byol(predictions[0], targets[1]) + losses.byol(predictions[1], targets[0])}

    def after_update(state: Any, update: Update) -> dict[str, Any]:
        kept = momentum_at(update.step, num_steps=num_steps, momentum=momentum)
        return {"target": momentum_encoder.follow(state["target"], update.variables, kept)}

    return Method("byol", loss, init, embed, after_update, heads={"predictor": predictor})


def momentum_at(step: jax.Array, *, num_steps: int, momentum: float) -> jax.Array:
    """1 - (1 - momentum) (cos(pi step / num_steps) + 1) / 2: `momentum` at first, 1 at the end."""
    return 1.0 - (1.0 - momentum) * (jnp.cos(math.pi * step / num_steps) + 1.0) / 2.0
