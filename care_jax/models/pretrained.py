"""A backbone in a state dict of whatever origin: its architecture, its variables, and what was left out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import linen

from care_jax.models import torch_weights, vit_weights
from care_jax.models.state_dicts import find_backbone, listed


class PretrainedBackbone(NamedTuple):
    """A backbone that was found.

    Attributes:
      module: a `ResNet` or a `VisionTransformer`, of the architecture that names and shapes have.
      variables: {"params": ..., "batch_stats": ...} of it (a Vision Transformer has no statistics), numpy float32.
      where: the wrappers and the prefix, with a space before each; empty for neither.
      unused: names beside it: classifiers, projection heads, momentum averages, queues.
    """

    module: linen.Module
    variables: dict[str, Any]
    where: str
    unused: tuple[str, ...]


def pretrained_backbone(state_dict: Any, *, num_heads: int | None = None) -> PretrainedBackbone:
    """The one ResNet or Vision Transformer in a state dict.

    ResNets have torchvision's names (timm has the same), Vision Transformers timm's (so have DINO, DeiT and MoCo v3) or
    torchvision's. Wrappers and prefixes are looked through, see `variables_from_torch`. Where an encoder and its
    momentum average are there, the encoder is taken; of DINO's student and teacher the teacher, which DINO evaluates.

    Args:
      state_dict: names to numpy arrays or torch tensors, or a checkpoint that holds such a mapping.
      num_heads: of a Vision Transformer, which no name and no shape tells; None, and where the channels don't divide by
        it, for 64 channels a head, as in ViT-S and ViT-B.

    Raises:
      ValueError: there is none, several, or one of another architecture: naming what is missing or unexpected.
    """
    outer = ""
    if isinstance(state_dict, Mapping) and {"student", "teacher"} <= state_dict.keys():
        state_dict, outer = state_dict["teacher"], " in ['teacher']"
    module: linen.Module
    found = vit_weights.find_vit(state_dict)
    if found is None:
        found = find_backbone(state_dict)
        if not any(name.startswith("layer1.") for name in found.entries):
            raise ValueError(
                "neither a ResNet with torchvision's names nor a Vision Transformer with timm's or torchvision's; names"
                f"{outer}{found.where} are {listed(found.entries)}"
            )
        module, variables = torch_weights.resnet_of(found)
        classifiers: tuple[str, ...] = torch_weights.CLASSIFIERS
    else:
        module, variables = vit_weights.vit_of(found, num_heads)
        classifiers = vit_weights.CLASSIFIERS
    unused = [f"{found.prefix}{name}" for name in found.entries if name.startswith(classifiers)] + list(found.others)
    unused = [name for name in unused if not name.endswith(torch_weights.COUNTERS)]
    return PretrainedBackbone(module, variables, outer + found.where, tuple(unused))
