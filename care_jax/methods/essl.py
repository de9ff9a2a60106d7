"""E-SSL: beside the base objective, tell by how many quarter turns a small third view was turned."""

from collections.abc import Mapping
from typing import Any, Self

import jax.numpy as jnp
import optax
from flax import linen

from care_jax.augment import image_spec
from care_jax.methods.base import Outputs, Pieces, Term, Terms, Views
from care_jax.models import LayerNormHead, Networks
from care_jax.rules import at_least, setting

NUM_TURNS = 4


class ESSL(Term):
    """Cross-entropy of the four-fold rotation of each image's third view: the term `rotation`.

    All four turns of all images pass through the backbone as one view of 4b images of half the side.

    Attributes:
      dtype: of the computation of the head that classifies the features.

    Source: Dangovski et al., ICLR 2022; the official code's CIFAR10 set-up.
    """

    name = "essl"
    needs = ("rotated",)
    only_images = "tells the quarter turns of an image"
    dtype: Any = jnp.float32
    hidden_size: int = setting(2048, at_least(1), "units of each of the two hidden layers of its head")

    @classmethod
    def make(cls, pieces: Pieces, **settings: Any) -> Self:
        angle = image_spec(pieces.spec).rotation_degrees
        if angle:
            raise ValueError(
                f"config.augment.invariance.rotation_degrees is {angle:g}, but essl tells how far an image was turned; "
                "make it 0, or use another config.equivariance.term"
            )
        return cls(dtype=pieces.dtype, **settings)

    @property
    def projects(self) -> bool:
        return False

    @property
    def heads(self) -> Mapping[str, linen.Module]:
        return {"rotation_head": LayerNormHead((self.hidden_size,) * 2, NUM_TURNS, dtype=self.dtype)}

    def embed(self, networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        assert views.rotated is not None  # `needs` says so
        logits = networks.through("rotation_head", networks.features(views.rotated))
        # Row 4i + k is image i turned by k quarters -> [4, b, 4].
        return {"rotation_logits": jnp.moveaxis(logits.reshape(-1, NUM_TURNS, NUM_TURNS), 1, 0)}

    def loss(self, outputs: Outputs) -> Terms:
        logits = outputs["rotation_logits"]
        turns = jnp.broadcast_to(jnp.arange(NUM_TURNS)[:, None], logits.shape[:2])
        return {"rotation": optax.softmax_cross_entropy_with_integer_labels(logits, turns).mean()}
