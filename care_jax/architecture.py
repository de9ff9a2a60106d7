"""From a configuration to its networks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import ml_collections
from flax import linen

from care_jax import models

BACKBONES: dict[str, Callable[..., linen.Module]] = {
    # One block a stage: for small images on a laptop.
    "resnet10": partial(models.ResNet, stage_sizes=(1, 1, 1, 1)),
    "resnet18": models.resnet18,
    "resnet34": models.resnet34,
    "resnet50": models.resnet50,
    "vit_small": models.vit_small,
    "vit_base": models.vit_base,
}
DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make_encoder(config: ml_collections.ConfigDict) -> models.Encoder:
    """The backbone and its projection head."""
    model = config.model
    backbone = BACKBONES[model.backbone](stem=model.stem, width=model.width, dtype=DTYPES[model.dtype])
    return models.Encoder(backbone=backbone, head=make_head(config))


def make_head(config: ml_collections.ConfigDict) -> models.ProjectionHead:
    """A head of the projection head's shape."""
    model = config.model
    return models.ProjectionHead(
        hidden_sizes=tuple(model.head_hidden_sizes),
        size=model.head_size,
        batch_norm=model.head_batch_norm,
        dtype=DTYPES[model.dtype],
    )
