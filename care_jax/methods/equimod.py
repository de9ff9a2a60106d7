"""EquiMod: from the embedding of the plain image and the augmentation's parameters, predict that of the view."""

import jax.numpy as jnp

from care_jax import augment, losses
from care_jax.augment import AugmentSpec
from care_jax.methods.base import Outputs, Term, Terms, Views
from care_jax.models import EquivariancePredictor, Networks, ProjectionHead, normalize


def equimod(
    *,
    spec: AugmentSpec,
    equivariance_head: ProjectionHead,
    batch_norm: bool,
    temperature: float = 0.2,
) -> Term:
    """NT-Xent whose positive pairs are a view's embedding and its prediction: the term `equimod`.

    A head of its own embeds the plain image, y_0, and each view, y_t; a predictor makes y^_t of y_0 and of t's
    parameters (`augment.equimod_parameters`, standardised). Of 2 v b vectors each has one positive and 2 v b - 2
    negatives; no gradient is stopped.

    Args:
      spec: the ranges that the views are drawn from; standardises the parameters.
      equivariance_head: from features to the embeddings that are predicted.
      batch_norm: whether the predictor has batch norm; the original does.
      temperature: of NT-Xent.

    Source: Devillers and Lefort, ICLR 2023; the official code's SimCLR+EquiMod.
    """
    heads = {
        "equivariance_head": equivariance_head,
        "equivariance_predictor": EquivariancePredictor(
            equivariance_head.size, batch_norm=batch_norm, dtype=equivariance_head.dtype
        ),
    }

    def embed(networks: Networks, views: Views, outputs: Outputs) -> Outputs:
        assert views.plain is not None and views.drawn is not None  # `needs` says so
        features = outputs["features"]
        height, width = views.image_size
        mean, std = augment.equimod_standardisation(spec)
        parameters = augment.equimod_parameters(views.drawn, height=height, width=width)[: len(features)]
        embedded = networks.apply("equivariance_head", jnp.concatenate([networks.features(views.plain), features]))
        plain = jnp.broadcast_to(embedded[:1], embedded[1:].shape)
        predicted = networks.apply("equivariance_predictor", plain, (parameters - mean) / std)
        return {"view_embeddings": embedded[1:], "predicted_embeddings": predicted}

    def loss(outputs: Outputs) -> Terms:
        size = outputs["view_embeddings"].shape[-1]
        pairs = (normalize(outputs[name]) for name in ("view_embeddings", "predicted_embeddings"))
        rows, predicted = (x.reshape(-1, size) for x in pairs)
        return {"equimod": losses.info_nce(rows, predicted, temperature=temperature)}

    return Term("equimod", loss, embed, heads, needs=("plain", "drawn"))
