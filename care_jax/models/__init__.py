"""Encoders: ResNets equal to torchvision's, other backbones, heads, and weights to and from PyTorch."""

from collections.abc import Callable
from functools import partial

from flax import linen

from care_jax.losses.arrays import normalize
from care_jax.models.batch_norm import BatchNorm
from care_jax.models.deep_sets import CloudBackbone, DeepSet, deep_set
from care_jax.models.encoder import Encoder, encode_views
from care_jax.models.heads import EquivariancePredictor, HyperPredictor, LayerNormHead, Linear, ProjectionHead
from care_jax.models.networks import Networks, init_heads
from care_jax.models.pretrained import PretrainedBackbone, pretrained_backbone
from care_jax.models.resnet import ResNet, resnet18, resnet34, resnet50
from care_jax.models.torch_file import read_torch_file
from care_jax.models.torch_weights import (
    TorchCheckpoint,
    head_to_torch,
    load_torch_checkpoint,
    resnet_from_torch,
    variables_from_torch,
    variables_to_torch,
)
from care_jax.models.vit import VisionTransformer, vit_base, vit_small

# `model.backbone` -> called with stem, width and dtype, a linen module: (images [b * v, h, w, 3], train, num_views) ->
# features [b * v, w] of v views.
BACKBONES: dict[str, Callable[..., linen.Module]] = {
    # One block a stage: for small images on a laptop.
    "resnet10": partial(ResNet, stage_sizes=(1, 1, 1, 1)),
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vit_small": vit_small,
    "vit_base": vit_base,
}

# The same for clouds of points, called with width, pooling and dtype: (clouds [b * v, n, 4], train, num_views) ->
# features.
CLOUD_BACKBONES: dict[str, Callable[..., linen.Module]] = {"deep_set": deep_set}

__all__ = [
    "BACKBONES",
    "CLOUD_BACKBONES",
    "BatchNorm",
    "CloudBackbone",
    "DeepSet",
    "Encoder",
    "EquivariancePredictor",
    "HyperPredictor",
    "LayerNormHead",
    "Linear",
    "Networks",
    "PretrainedBackbone",
    "ProjectionHead",
    "ResNet",
    "TorchCheckpoint",
    "VisionTransformer",
    "deep_set",
    "encode_views",
    "head_to_torch",
    "init_heads",
    "load_torch_checkpoint",
    "normalize",
    "pretrained_backbone",
    "read_torch_file",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet_from_torch",
    "variables_from_torch",
    "variables_to_torch",
    "vit_base",
    "vit_small",
]
