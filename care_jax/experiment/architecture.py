"""From a configuration to its networks."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from care_jax import models
from care_jax.experiment.config import ConfigError
from care_jax.experiment.settings import of_clouds
from care_jax.methods import TERMS

# Of the computation; parameters and statistics have float32 at least.
DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}


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


def dtype_of(config: ml_collections.ConfigDict) -> Any:
    """The type that the networks compute in.

    Raises:
      ConfigError: it is float64, of which JAX would quietly make float32.
    """
    name = config.model.dtype
    if jax.dtypes.canonicalize_dtype(DTYPES[name]) != DTYPES[name]:
        raise ConfigError(
            "config.model.dtype is 'float64', which JAX has only when it is started for it; set the environment "
            "variable JAX_ENABLE_X64=1"
        )
    return DTYPES[name]


def make_encoder(config: ml_collections.ConfigDict) -> models.Encoder:
    """The backbone and its projection head."""
    model = config.model
    dtype = dtype_of(config)
    if of_clouds(config):
        backbone = models.CLOUD_BACKBONES[model.backbone](width=model.width, pooling=model.pooling, dtype=dtype)
    else:
        backbone = models.BACKBONES[model.backbone](stem=model.stem, width=model.width, dtype=dtype)
    return models.Encoder(backbone=backbone, head=make_head(config, output_batch_norm=model.head_output_batch_norm))


def make_head(config: ml_collections.ConfigDict, *, output_batch_norm: bool) -> models.ProjectionHead:
    """A head of the projection head's shape."""
    model = config.model
    return models.ProjectionHead(
        hidden_sizes=tuple(model.head_hidden_sizes),
        size=model.head_size,
        batch_norm=model.head_batch_norm,
        dtype=dtype_of(config),
        output_batch_norm=output_batch_norm,
    )
