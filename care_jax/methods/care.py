"""CARE: the augmentation that a group shares should move all its embeddings by one linear map of a chosen group."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen

from care_jax import losses
from care_jax.methods.base import Outputs, Pieces, Space, Term, Terms, Views
from care_jax.models import Networks, ProjectionHead, normalize
from care_jax.rules import one_of, setting

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


class Care(Term):
    """`losses.equivariance_loss` of the equivariance views: the term `equivariance`.

    Attributes:
      num_groups: g, groups of images that share a pair of draws.
      equivariance_head: what `on="head"` trains on the features. Nothing but batch norm of its outputs keeps it from
        making all embeddings equal; None: a `ProjectionHead` that has it.

    `group`: "orthogonal": unit vectors, O(d). "symplectic": unit vectors, Sp(d), d even. "lorentz": x is lifted to the
    hyperboloid in R^(d+1), by the space part x / |x| * sqrt(1 + |x|^2); O(1, d).

    Source: Gupta et al., ICLR 2024, L_equi; section 3.2 for the other groups.
    """

    name = "care"
    needs = ("equivariance",)
    num_views = 0
    num_groups: int
    on: str = setting("projection", one_of(SPACES), "the vectors that the augmentation should move", stated=True)
    group: str = setting("orthogonal", one_of(GROUPS), "of the linear maps that it may be", stated=True)
    equivariance_head: linen.Module | None = None

    @classmethod
    def make(cls, pieces: Pieces, **settings: Any) -> Self:
        head = pieces.head(output_batch_norm=pieces.batch_norm)
        term = cls(num_groups=pieces.num_groups, equivariance_head=head, **settings)
        if term.group == "symplectic":
            on_features = term.on == "features"
            size = pieces.num_features() if on_features else head.size
            if size % 2:
                raise ValueError(
                    "config.equivariance.group is 'symplectic', whose form needs an even dimension, but "
                    f"{'the number of features' if on_features else 'config.model.head_size'} is {size}; make it even"
                )
        return term

    @property
    def projects(self) -> bool:
        return self.on == "projection"

    @property
    def heads(self) -> Mapping[str, linen.Module]:
        if self.on != "head":
            return {}
        return {"equivariance_head": self.equivariance_head or ProjectionHead(output_batch_norm=True)}

    def embed(self, networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        features = outputs["equivariance_features"]
        if self.on == "projection":
            features = networks.project(features)
        elif self.on == "head":
            features = networks.through("equivariance_head", features)
        return {"equivariance_outputs": features}

    def loss(self, outputs: Outputs) -> Terms:
        group = GROUPS[self.group]
        first, second = group.points(outputs["equivariance_outputs"])
        form = group.form(first.shape[-1])
        return {"equivariance": losses.equivariance_loss(first, second, num_groups=self.num_groups, form=form)}

    @property
    def space(self) -> Space:
        network = {"projection": "head", "features": "backbone", "head": "equivariance_head"}[self.on]
        group = GROUPS[self.group]
        return Space(network, group.points, None if self.group == "orthogonal" else group.form)
