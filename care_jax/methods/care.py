"""CARE: the augmentation that a group shares should move all its embeddings by one linear map of a chosen group."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen

from care_jax import losses
from care_jax.methods.base import Outputs, Space, Term, Terms, Views
from care_jax.models import Networks, ProjectionHead, normalize

# Where the term acts: on the projection, as in the paper; on the features; or on a head of its own.
SPACES = ("projection", "features", "head")


def _on_hyperboloid(x: jax.Array) -> jax.Array:
    # Equivariance to boosts is trivial where all embeddings meet at the vertex, and shrinking them is a way there that
    # the base objective, which looks at directions alone, would not mind. So the space part has a norm of 1 at least.
    return losses.hyperboloid(normalize(x) * jnp.sqrt(1.0 + jnp.sum(x**2, axis=-1, keepdims=True)))


class Group(NamedTuple):
    """Linear maps that an augmentation may act by.

    Attributes:
      points: network outputs [..., m] -> the vectors that the group acts on, [..., d].
      form: d -> the bilinear form that the group keeps, [d, d]; None for the inner product.
    """

    points: Callable[[jax.Array], jax.Array]
    form: Callable[[int], jax.Array | None]


GROUPS = {
    "orthogonal": Group(normalize, lambda d: None),
    "lorentz": Group(_on_hyperboloid, losses.lorentz_form),
    "symplectic": Group(normalize, losses.symplectic_form),
}


def care(
    *,
    num_groups: int,
    on: str = "projection",
    group: str = "orthogonal",
    equivariance_head: linen.Module | None = None,
) -> Term:
    """`losses.equivariance_loss` of the equivariance views: the term `equivariance`.

    Args:
      num_groups: g, groups of images that share a pair of draws.
      on: "projection", "features" or "head": the vectors that the augmentation should move.
      group: "orthogonal": unit vectors, O(d). "symplectic": unit vectors, Sp(d), d even. "lorentz": x is lifted to the
        hyperboloid in R^(d+1), by the space part x / |x| * sqrt(1 + |x|^2); O(1, d).
      equivariance_head: what `on="head"` trains on the features. Nothing but batch norm of its outputs keeps it from
        making all embeddings equal; None: a `ProjectionHead` that has it.

    Source: Gupta et al., ICLR 2024, L_equi; section 3.2 for the other groups.
    """
    own_head = equivariance_head or ProjectionHead(output_batch_norm=True)
    heads = {"equivariance_head": own_head} if on == "head" else {}

    def embed(networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        del views
        features = outputs["equivariance_features"]
        if on == "projection":
            features = networks.project(features)
        elif on == "head":
            features = networks.apply("equivariance_head", features)
        return {"equivariance_outputs": features}

    def loss(outputs: Outputs) -> Terms:
        first, second = GROUPS[group].points(outputs["equivariance_outputs"])
        form = GROUPS[group].form(first.shape[-1])
        return {"equivariance": losses.equivariance_loss(first, second, num_groups=num_groups, form=form)}

    network = {"projection": "head", "features": "backbone", "head": "equivariance_head"}[on]
    space = Space(network, GROUPS[group].points, None if group == "orthogonal" else GROUPS[group].form)
    return Term("care", loss, embed, heads, needs=("equivariance",), num_views=0, space=space)
