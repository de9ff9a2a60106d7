"""From a configuration to its networks."""

from typing import Any

import jax.numpy as jnp
import ml_collections

from care_jax import models
from care_jax.experiment.config import ConfigError
from care_jax.methods import TERMS

DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def check_architecture(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError, one line, where a Vision Transformer's patches do not divide the images."""
    backbone = make_encoder(config).backbone
    if not isinstance(backbone, models.VisionTransformer):
        return
    patch, size = backbone.patch_size, config.data.image_size
    if size % patch:
        raise ConfigError(
            f"config.data.image_size is {size}, which the {patch} x {patch} patches of {config.model.backbone} with "
            f"config.model.stem={config.model.stem} do not divide; use {max(size // patch, 1) * patch} for instance"
        )
    term = TERMS[config.equivariance.term]
    if config.equivariance.weight and "rotated" in term.needs and size // 2 % patch:
        raise ConfigError(
            f"config.equivariance.term is {term.name!r}, whose views of {size // 2} pixels the {patch} x {patch} "
            f"patches of {config.model.backbone} do not divide; make config.data.image_size a multiple of {2 * patch}"
        )


def make_encoder(config: ml_collections.ConfigDict) -> models.Encoder:
    """The backbone and its projection head."""
    model = config.model
    backbone = models.BACKBONES[model.backbone](stem=model.stem, width=model.width, dtype=DTYPES[model.dtype])
    return models.Encoder(backbone=backbone, head=make_head(config, output_batch_norm=model.head_output_batch_norm))


def make_head(config: ml_collections.ConfigDict, *, output_batch_norm: bool) -> models.ProjectionHead:
    """A head of the projection head's shape."""
    model = config.model
    return models.ProjectionHead(
        hidden_sizes=tuple(model.head_hidden_sizes),
        size=model.head_size,
        batch_norm=model.head_batch_norm,
        dtype=DTYPES[model.dtype],
        output_batch_norm=output_batch_norm,
    )
