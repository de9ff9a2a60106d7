"""BYOL: predict, from one view's projection, what a slowly following encoder makes of the other view. No negatives."""

import math
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import linen

from care_jax import losses
from care_jax.methods import momentum as momentum_encoder
from care_jax.methods.base import Method, Outputs, Pieces, Terms, Update, Views
from care_jax.models import Networks
from care_jax.rules import SHARE, setting


class BYOL(Method):
    """Squared distance of unit predictions and unit targets, over both directions: the term `prediction`.

    The targets come from a momentum encoder in training mode, as in the original: each view is normalised by its own
    batch statistics. It sees no gradient. Its momentum rises from `momentum` to 1 along half a cosine.

    The state: `target`, the momentum encoder's variables.

    Attributes:
      predictor: a head from projections to projections.
      num_steps: K, length of the run.

    Source: Grill et al., NeurIPS 2020, equations 1 and 2 and section 3.2 (the schedule).
    """

    name = "byol"
    if_longer = "byol's momentum rises to 1 at its last step"
    predictor: linen.Module
    num_steps: int
    momentum: float = setting(
        0.996,
        SHARE,
        "at the start: step k of K keeps 1 - (1 - momentum) (cos(pi k / K) + 1) / 2 of the momentum encoder",
    )

    @classmethod
    def make(cls, pieces: Pieces, **settings: Any) -> Self:
        return cls(predictor=pieces.head(output_batch_norm=False), num_steps=pieces.num_steps, **settings)

    @property
    def heads(self) -> Mapping[str, linen.Module]:
        return {"predictor": self.predictor}

    def init(self, key: jax.Array, variables: Mapping[str, Any], size: int) -> dict[str, Any]:
        return {"target": momentum_encoder.copy(variables)}

    def embed(self, networks: Networks, views: Views, outputs: Outputs, state: Any) -> Outputs:
        target = networks.frozen(state["target"], train=True)
        return {
            "predictions": networks.through("predictor", outputs["projections"]),
            "targets": jax.lax.stop_gradient(target.project(target.features(views.invariance))),
        }

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        predictions, targets = outputs["predictions"], outputs["targets"]
        return {"prediction": losses.byol(predictions[0], targets[1]) + losses.byol(predictions[1], targets[0])}

    def after_update(self, state: Any, update: Update) -> dict[str, Any]:
        kept = momentum_at(update.step, num_steps=self.num_steps, momentum=self.momentum)
        return {"target": momentum_encoder.follow(state["target"], update.variables, kept)}


def momentum_at(step: jax.Array, *, num_steps: int, momentum: float) -> jax.Array:
    """1 - (1 - momentum) (cos(pi step / num_steps) + 1) / 2: `momentum` at first, 1 at the end."""
    return 1.0 - (1.0 - momentum) * (jnp.cos(math.pi * step / num_steps) + 1.0) / 2.0
