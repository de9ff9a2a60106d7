"""What a training step minimises: a base objective on invariance views plus lambda times an equivariance term."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen

from care_jax.augment import Augmentation
from care_jax.models import Networks, normalize

# What the networks made of a batch, by name, each [v, b, ...]: of the invariance views `features` [v, b, w],
# `projections` [v, b, d] and `embeddings` [v, b, d] (unit rows); of the equivariance views, if there are any,
# `equivariance_features` [2, e, w]; and what a method or a term adds under names of its own.
Outputs = dict[str, jax.Array]
Terms = dict[str, jax.Array]


class Views(NamedTuple):
    """The images of a step, normalised, and how they were drawn. None for what the objective does not need.

    Attributes:
      invariance: [2, b, s, s, 3], each augmented by a draw of its own.
      equivariance: [2, e, s, s, 3], of the first e images, each augmented by its group's draw.
      plain: [1, b, s, s, 3], the central square and nothing drawn.
      rotated: [1, 4b, r, r, 3], a third, smaller draw of each image; row 4i + k is image i turned by k quarters.
      drawn: the draws of `invariance`, leading shape [2, b].
      image_size: (height, width) of the images that they were drawn for, pixels.
    """

    invariance: jax.Array
    equivariance: jax.Array | None = None
    plain: jax.Array | None = None
    rotated: jax.Array | None = None
    drawn: Augmentation | None = None
    image_size: tuple[int, int] = (0, 0)


class Update(NamedTuple):
    """What a method sees after the optimiser has moved the parameters.

    Attributes:
      step: updates made before this one.
      variables: of the networks, {"params": ..., "batch_stats": ...}, after it.
      outputs: of the batch, with the parameters before it.
    """

    step: jax.Array
    variables: Mapping[str, Any]
    outputs: Outputs


class Method(NamedTuple):
    """A base objective: a few pure functions.

    Attributes:
      name: as `loss.method` in the config names it.
      loss: (outputs, state) -> its terms by name; their sum is minimised. All rows of the batch are there, in order.
      init: (key, variables of the encoder, d) -> the state that the method keeps beside the parameters, a pytree.
      embed: (networks, views, outputs, state) -> what the loss needs beyond features, projections and embeddings, each
        [v, b, ...]. Rows may be a part of the batch: nothing here may mix them, but for batch norm.
      after_update: (state, `Update`) -> the state for the next step.
      heads: networks trained beside the encoder, by name, for `networks.apply(name, ...)` in `embed`.
      num_views: how many of the two invariance views pass through the encoder.
    """

    name: str
    loss: Callable[[Outputs, Any], Terms]
    init: Callable[[jax.Array, Mapping[str, Any], int], Any] = lambda key, variables, size: {}
    embed: Callable[[Networks, Views, Outputs, Any], Outputs] = lambda networks, views, outputs, state: {}
    after_update: Callable[[Any, Update], Any] = lambda state, update: state
    heads: Mapping[str, linen.Module] = {}
    num_views: int = 2


class Space(NamedTuple):
    """The vectors that a term asks an augmentation to move by one linear map.

    Attributes:
      network: whose outputs they are made of: "backbone" (the features), "head" (the projections), or one of the
        term's `heads`.
      points: outputs [..., m] -> vectors [..., d].
      form: d -> the bilinear form [d, d] that the maps keep; None for the inner product, which rotations and
        reflections keep.
    """

    network: str
    points: Callable[[jax.Array], jax.Array]
    form: Callable[[int], jax.Array | None] | None = None


class Term(NamedTuple):
    """An equivariance term: what is added to a base objective.

    Attributes:
      name: as `equivariance.term` in the config names it.
      loss: outputs -> its terms by name; lambda times their sum is added to the base objective.
      embed: (networks, views, outputs) -> what the loss needs; see `Method`.
      heads: see `Method`.
      needs: the fields of `Views` that it uses beside `invariance`.
      num_views: how many of the two invariance views it needs through the encoder.
      space: the vectors that it acts on, for whoever measures how they move; None for a term that moves none linearly.
    """

    name: str
    loss: Callable[[Outputs], Terms]
    embed: Callable[[Networks, Views, Outputs], Outputs] = lambda networks, views, outputs: {}
    heads: Mapping[str, linen.Module] = {}
    needs: tuple[str, ...] = ()
    num_views: int = 1
    space: Space | None = None


class Objective(NamedTuple):
    """L = L_base + lambda * L_equivariance (PAPER.md's section 1; arXiv:2306.13924, section 3.1).

    Attributes:
      method: the base objective.
      term: the equivariance term; None leaves the plain base objective.
      weight: lambda.
    """

    method: Method
    term: Term | None = None
    weight: float = 0.0

    @property
    def heads(self) -> dict[str, linen.Module]:
        """All networks trained beside the encoder."""
        return {**self.method.heads, **(self.term.heads if self.term else {})}

    def embed(self, networks: Networks, views: Views, state: Any) -> Outputs:
        """All outputs of a batch, or of some of its rows.

        Args:
          networks: applied in training mode.
          views: of these rows.
          state: of the method.
        """
        invariance, equivariance = views.invariance, views.equivariance
        invariance = invariance[: max(self.method.num_views, self.term.num_views if self.term else 0)]
        outputs = {}
        if equivariance is not None and equivariance.shape[1:] == invariance.shape[1:]:
            features = networks.features(jnp.concatenate([invariance, equivariance]))  # in one pass
            count = len(invariance)
            features, outputs["equivariance_features"] = features[:count], features[count:]
        else:
            features = networks.features(invariance)
            if equivariance is not None:
                outputs["equivariance_features"] = networks.features(equivariance)
        projections = networks.project(features)
        outputs |= {"features": features, "projections": projections, "embeddings": normalize(projections)}
        outputs |= self.method.embed(networks, views, outputs, state)
        if self.term:
            outputs |= self.term.embed(networks, views, outputs)
        return outputs

    def __call__(self, outputs: Outputs, state: Any) -> tuple[jax.Array, Terms]:
        """The total and its terms by name.

        Args:
          outputs: of the whole batch.
          state: of the method.

        Returns:
          The scalar to minimise, and every term, those of the base as they are added and the equivariance term
          unweighted (`loss` is the total).
        """
        terms = dict(self.method.loss(outputs, state))
        total = jnp.asarray(sum(terms.values()), jnp.float32)
        if self.term:
            added = self.term.loss(outputs)
            total = total + self.weight * sum(added.values())
            terms |= added
        return total, {"loss": total, **terms}
