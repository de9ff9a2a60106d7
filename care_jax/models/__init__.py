"""Encoders: ResNets equal to torchvision's, other backbones, heads, and weights to and from PyTorch."""

from care_jax.models.batch_norm import BatchNorm
from care_jax.models.deep_sets import DeepSet
from care_jax.models.encoder import Encoder, encode_views, normalize
from care_jax.models.heads import EquivariancePredictor, LayerNormHead, Linear, ProjectionHead
from care_jax.models.networks import Networks, init_heads
from care_jax.models.resnet import ResNet, resnet18, resnet34, resnet50
from care_jax.models.torch_weights import (
    TorchCheckpoint,
    load_torch_checkpoint,
    resnet_from_torch,
    variables_from_torch,
    variables_to_torch,
)
from care_jax.models.vit import VisionTransformer, vit_base, vit_small

__all__ = [
    "BatchNorm",
    "DeepSet",
    "Encoder",
    "EquivariancePredictor",
    "LayerNormHead",
    "Linear",
    "Networks",
    "ProjectionHead",
    "ResNet",
    "TorchCheckpoint",
    "VisionTransformer",
    "encode_views",
    "init_heads",
    "load_torch_checkpoint",
    "normalize",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet_from_torch",
    "variables_from_torch",
    "variables_to_torch",
    "vit_base",
    "vit_small",
]
