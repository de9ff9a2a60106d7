"""What a training step minimises: a base objective on invariance views plus lambda times an equivariance term."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
from flax import linen

from care_jax.augment import Drawn, Spec
from care_jax.losses.arrays import promote
from care_jax.methods.joined import ROW, joined
from care_jax.models import Networks, ProjectionHead, normalize
from care_jax.rules import POSITIVE, Setting, declared, setting

# What the networks made of a batch, by name, each [v, b, ...]: of the invariance views `features` [v, b, w],
# `projections` [v, b, d] and `embeddings` [v, b, d] (unit rows); of the equivariance views, if there are any,
# `equivariance_features` [2, e, w]; and what a method or a term adds under names of its own.
Outputs = dict[str, jax.Array]
Terms = dict[str, jax.Array]

# Of all contrastive methods; data sets' files set it.
TEMPERATURE: Any = setting(
    0.5, POSITIVE, "tau, which cosines are divided by; the paper's MoCo-v2 has 0.1", stated=True, ignorable=True
)


class Views(NamedTuple):
    """The inputs of a step and how they were drawn. None for what the objective does not need.

    Images [s, s, 3] are normalised; clouds [L, 4] may be in their place, but for `rotated`.

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
    drawn: Drawn | None = None
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


class Pieces(NamedTuple):
    """What a run has for its method and its term, beside their own settings.

    Attributes:
      spec: the ranges that the invariance views are drawn from.
      num_steps: length of the run.
      num_groups: g, groups of images that share a pair of equivariance draws.
      head: (output_batch_norm=...) -> a head of the projection head's shape.
      batch_norm: whether heads have it.
      dtype: of their computation.
      num_features: () -> w, the dimension of the features.
    """

    spec: Spec
    num_steps: int
    num_groups: int
    head: Callable[..., ProjectionHead]
    batch_norm: bool
    dtype: Any
    num_features: Callable[[], int]


@dataclass_transform(frozen_default=True, kw_only_default=True)
class _Declared:
    """A frozen dataclass; `settings` are those of its fields that `rules.setting` made, by name."""

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Setting]] = {}

    def __init_subclass__(cls) -> None:
        cls.settings = {**cls.settings, **declared(cls, cls.settings)}
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def make(cls, pieces: Pieces, **settings: Any) -> Self:
        """From the pieces of a run and the settings that have a value; to be overridden by what needs the pieces.

        Raises:
          ValueError: one line, if it does not go together with them.
        """
        del pieces
        return cls(**settings)

    @property
    def heads(self) -> Mapping[str, linen.Module]:
        """Networks trained beside the encoder, by name, for `networks.through(name, ...)` in `embed`."""
        return {}

    @property
    def projects(self) -> bool:
        """Whether its loss reads projections or embeddings, and so trains the projection head."""
        return True


class Method(_Declared):
    """A base objective: settings, and a few pure functions.

    Attributes:
      name: as `loss.method` in the config names it.
      num_views: how many of the two invariance views pass through the encoder.
      if_longer: what makes its steps depend on how many there are to be; empty: nothing does.
    """

    num_views: ClassVar[int] = 2
    if_longer: ClassVar[str] = ""

    def init(self, key: jax.Array, variables: Mapping[str, Any], size: int) -> Any:
        """From the encoder's variables and d: the state that the method keeps beside the parameters, a pytree."""
        return {}

    def embed(self, networks: Networks, views: Views, outputs: Outputs, state: Any) -> Outputs:
        """What the loss needs beyond features, projections and embeddings, each [v, b, ...].

        Rows may be a part of the batch: nothing here may mix them, but for batch norm.
        """
        return {}

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        """Its terms by name; their sum is minimised. All rows of the batch are there, in order."""
        raise NotImplementedError

    def after_update(self, state: Any, update: Update) -> Any:
        """The state for the next step."""
        return state


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


class Term(_Declared):
    """An equivariance term: what is added to a base objective.

    Attributes:
      name: as `equivariance.term` in the config names it.
      needs: the fields of `Views` that it uses beside `invariance`.
      num_views: how many of the two invariance views it needs through the encoder.
      only_images: why it makes no sense for clouds of points; empty where it does.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    num_views: ClassVar[int] = 1
    only_images: ClassVar[str] = ""

    @property
    def space(self) -> Space | None:
        """The vectors that it acts on, for whoever measures how they move; None: it moves none linearly."""
        return None

    def embed(self, networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        """What the loss needs; see `Method`."""
        return {}

    def loss(self, outputs: Outputs) -> Terms:
        """Its terms by name; lambda times their sum is added to the base objective."""
        raise NotImplementedError


class Objective(NamedTuple):
    """L = L_base + lambda * L_equivariance (arXiv:2306.13924, section 3.1).

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
        """All networks trained beside the encoder.

        Raises:
          ValueError: two have one name, or one has the encoder's.
        """
        of_term = self.term.heads if self.term else {}
        return joined("head", self.method.heads, of_term, reserved=("backbone", "head"))

    @property
    def projects(self) -> bool:
        """Whether anything trains the projection head."""
        return self.method.projects or (self.term is not None and self.term.projects)

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
        outputs = joined("output", outputs, self.method.embed(networks, views, outputs, state))
        return joined("output", outputs, self.term.embed(networks, views, outputs)) if self.term else outputs

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
        (total,) = promote(jnp.asarray(sum(terms.values())))
        if self.term:
            added = self.term.loss(outputs)
            total = total + self.weight * sum(added.values())
            terms = joined("term", terms, added)
        return total, {"loss": total, **joined("term", terms, reserved=ROW)}


Declared = TypeVar("Declared", bound=_Declared)


def settings_of(registry: Mapping[str, type[Declared]]) -> dict[str, Setting]:
    """All settings of the registered methods, or of the terms, by name.

    Raises:
      ValueError: two that have a setting of one name differ in what it may hold, or in what the configuration states.
    """
    found: dict[str, Setting] = {}
    first: dict[str, str] = {}
    for owner, cls in registry.items():
        for name, own in cls.settings.items():
            other, other_owner = found.setdefault(name, own), first.setdefault(name, owner)
            if _shared(own) != _shared(other):
                raise ValueError(
                    f"{owner} and {other_owner} declare the setting {name!r} differently; use one for both, as "
                    "TEMPERATURE is, or another name"
                )
    return found


def _shared(own: Setting) -> tuple[Any, ...]:
    """What the configuration knows of a setting: all but the meaning, and a default that is not in it."""
    return own.kind, own.rule.text, own.stated, own.ignorable, own.default if own.stated else None
