"""SIE: half of the features are to stay, the other half to be moved by a linear map that the augmentation decides."""

from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import linen

from care_jax import losses
from care_jax.augment import CloudAugmentation, Spec
from care_jax.methods.base import Outputs, Pieces, Term, Terms, Views
from care_jax.methods.equimod import drawn_parameters, equimod_standardisation
from care_jax.models import HyperPredictor, Networks, ProjectionHead
from care_jax.rules import at_least, setting


class SIE(Term):
    """Five terms of two views, no negatives, no stopped gradient; a whole objective, with `loss.method=none`.

        10 |u1 - u2|^2 / d_u + 4.5 |W(t) v1 - v2|^2 / d_v + 10 variance + 10 variance of W(t) v1 + 1 covariance

    u = a head of the first half of the features, v = another of the second half; variance and covariance are VICReg's,
    of [u; v], so that neither half repeats the other; W(t) is a linear function of the augmentation between the views
    (`relation`), d_v x d_v numbers. Logged with their weights: `sie_invariance`, `sie_equivariance`, `sie_variance`,
    `sie_predicted_variance`, `sie_covariance`.

    Attributes:
      spec: the ranges that the views are drawn from; standardises what was drawn.
      half_head: of each half; half as wide as the projection head.

    The original is trained on rotated objects, whose relative rotation, a quaternion, decides W without a constant;
    where views are crops and colours there is none that is 0 for equal views, and W has one.

    Source: Garrido et al., ICML 2023, and its code's SIE with a linear hypernetwork.
    """

    name = "sie"
    needs = ("drawn",)
    num_views = 2
    spec: Spec
    half_head: ProjectionHead
    sie_invariance_weight: float = setting(10.0, at_least(0), "of the squared distance of the invariant halves")
    sie_equivariance_weight: float = setting(4.5, at_least(0), "of the squared error of the predicted half")
    sie_variance_weight: float = setting(10.0, at_least(0), "of each dimension's lack of spread, predictions' too")
    sie_covariance_weight: float = setting(1.0, at_least(0), "of the squared covariances between dimensions")

    @classmethod
    def make(cls, pieces: Pieces, **settings: Any) -> Self:
        features, head = pieces.num_features(), pieces.head(output_batch_norm=False)
        for name, size in (("the number of features", features), ("config.model.head_size", head.size)):
            if size % 2:
                raise ValueError(
                    f"config.equivariance.term is 'sie', which halves {name}, but it is {size}; make it even"
                )
        hidden = tuple(max(size // 2, 1) for size in head.hidden_sizes)
        return cls(spec=pieces.spec, half_head=head.clone(hidden_sizes=hidden, size=head.size // 2), **settings)

    @property
    def projects(self) -> bool:
        return False

    @property
    def heads(self) -> Mapping[str, linen.Module]:
        predictor = HyperPredictor(self.half_head.size, dtype=self.half_head.dtype)
        return {"invariant_head": self.half_head, "equivariant_head": self.half_head, "relation_predictor": predictor}

    def embed(self, networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        assert views.drawn is not None  # `needs` says so
        unchanged, moved = jnp.split(outputs["features"], 2, axis=-1)
        u, v = networks.through("invariant_head", unchanged), networks.through("equivariant_head", moved)
        between = relation(views, self.spec)
        predicted = networks.through("relation_predictor", v[:1], between[None])
        return {"invariant_halves": u, "equivariant_halves": v, "predicted_halves": predicted}

    def loss(self, outputs: Outputs) -> Terms:
        (u1, u2), (v1, v2) = outputs["invariant_halves"], outputs["equivariant_halves"]
        (predicted,) = outputs["predicted_halves"]
        whole = jnp.concatenate([u1, v1], axis=-1), jnp.concatenate([u2, v2], axis=-1)
        spread = self.sie_variance_weight
        return {
            "sie_invariance": self.sie_invariance_weight * losses.invariance(u1, u2),
            "sie_equivariance": self.sie_equivariance_weight * losses.invariance(predicted, v2),
            "sie_variance": spread * losses.variance(*whole),
            # Of one batch of vectors, which the original counts half, as it does each view's.
            "sie_predicted_variance": spread * losses.variance(predicted, predicted) / 2,
            "sie_covariance": self.sie_covariance_weight * losses.covariance(*whole),
        }


def relation(views: Views, spec: Spec) -> jax.Array:
    """The augmentation that leads from the first view to the second, [b, k].

    Of images the difference of what was drawn (`equimod_parameters`), over the deviation of one draw; of clouds the
    nine numbers of the rotation R_2 R_1', and the difference of the factors' logarithms.
    """
    assert views.drawn is not None
    drawn = views.drawn
    if isinstance(drawn, CloudAugmentation):
        turned = jnp.einsum("bij,bkj->bik", drawn.rotation[1], drawn.rotation[0], precision="highest")
        scale = jnp.log(drawn.scale[1] / drawn.scale[0])
        return jnp.concatenate([turned.reshape(len(turned), 9), scale[:, None]], axis=-1)
    height, width = views.image_size
    _, deviation = equimod_standardisation(spec)
    first, second = drawn_parameters(drawn, height=height, width=width)
    return (second - first) / deviation
