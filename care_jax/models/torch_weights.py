"""Weights to and from PyTorch: torchvision's names for backbones, and checkpoints of the official CARE code.

State dicts may hold numpy arrays: nothing here imports torch.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from care_jax.models.encoder import Encoder
from care_jax.models.heads import ProjectionHead
from care_jax.models.resnet import ResNet
from care_jax.models.state_dicts import (
    PROJECTION_HEAD,
    Part,
    children,
    find_backbone,
    find_parts,
    listed,
    part_of,
    to_array,
)
from care_jax.models.torch_file import read_torch_file
from care_jax.models.vit_weights import vit_to_torch

Path = tuple[str, ...]  # of a leaf: (collection, module, ..., variable)

CLASSIFIERS = ("fc.", f"{PROJECTION_HEAD}.")
COUNTERS = ("num_batches_tracked",)  # of the steps that a batch norm has averaged over; nothing is computed from them
_TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class TorchCheckpoint(NamedTuple):
    """A checkpoint of the official code.

    Attributes:
      encoder: the module: its `backbone` is a `ResNet` (stage sizes, stem, ...), its `head` a `ProjectionHead`.
      variables: {"params", "batch_stats"} for `encoder.apply`, numpy float32.
      epoch: training epochs completed, or None if the file doesn't say.
    """

    encoder: Encoder
    variables: dict[str, Any]
    epoch: int | None


def variables_from_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a `ResNet` from a torchvision state dict.

    The architecture is read off the names and shapes; see `resnet_from_torch` for the module. `fc.*` (the classifier)
    and `num_batches_tracked` are left out.

    Wrappers ({"state_dict": ...}, {"model": ...}) and prefixes (`module.`, `_orig_mod.`, `backbone.`, stacked), as
    parallel wrappers, torch.compile, Lightning, solo-learn and lightly add them, are looked through as long as they
    hold ONE backbone. What lies outside its prefix (heads, queues, optimizers, and the momentum averages of MoCo,
    solo-learn and lightly) is left out; what lies inside must be a ResNet, all of it.

    Args:
      state_dict: torchvision names to numpy arrays or torch tensors, convolutions [out, in, height, width].

    Returns:
      {"params": ..., "batch_stats": ...}, numpy float32, for `ResNet.apply`.

    Raises:
      ValueError: naming what is missing, unexpected, misshapen or no dense array of real numbers; the backbones, where
        there are several; a name that is no string.
    """
    return _backbone_from_torch(state_dict)[1]


def resnet_from_torch(state_dict: Mapping[str, Any]) -> ResNet:
    """The `ResNet` whose weights a torchvision state dict holds: blocks, bottleneck, width and stem.

    Args and Raises: as `variables_from_torch`.
    """
    return _backbone_from_torch(state_dict)[0]


def variables_to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A torchvision state dict from the variables of a `ResNet`; the inverse of `variables_from_torch`, bit for bit.

    From those of a `VisionTransformer`, timm's, see `vit_to_torch`.

    For torchvision or timm: `model.load_state_dict({k: torch.from_numpy(v) for k, v in result.items()}, strict=False)`;
    only the classifier is reported missing. The cifar stem needs `model.conv1` and `model.maxpool` replaced first.

    Args:
      variables: {"params": ..., "batch_stats": ...} of a `ResNet`; of an `Encoder`, those under "backbone".

    Returns:
      torchvision names to numpy arrays, convolutions [out, in, height, width].

    Raises:
      ValueError: if the variables are those of neither.
    """
    if "patch_embedding" in variables.get("params", {}):
        return vit_to_torch(variables)
    leaves = _leaves(variables)
    if ("params", "conv1", "kernel") not in leaves:
        modules = sorted({path[1] for path in leaves})
        raise ValueError(
            f"variables_to_torch takes a ResNet's variables (of an Encoder: its backbone's), got {modules}"
        )
    return {
        _torch_name(path): np.array(_to_torch_layout(np.asarray(value)), order="C") for path, value in leaves.items()
    }


def head_to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A torch state dict from the variables of a `ProjectionHead`: that of an `nn.Sequential`.

    Its modules are, for every hidden layer, Linear (without bias before a norm), BatchNorm1d (where there is one) and
    ReLU, then Linear, and a BatchNorm1d without scale and bias where the outputs have one.

    Args:
      variables: {"params": ..., "batch_stats": ...} of a `ProjectionHead`; of an `Encoder`, those under "head".
    """
    leaves = _leaves(variables)
    # A batch norm of the outputs alone comes after the last linear layer.
    batch_norm = ("batch_stats", "bn0", "mean") in leaves and ("params", "linear1", "kernel") in leaves
    return {
        _head_name(path, batch_norm): np.array(_to_torch_layout(np.asarray(value)), order="C")
        for path, value in leaves.items()
    }


def load_torch_checkpoint(path: str | os.PathLike[str]) -> TorchCheckpoint:
    """The encoder saved by the official code (Sharut/CARE), `.pth.tar`.

    Two layouts are read, with or without prefixes (`module.`, `_orig_mod.`) and wrappers, as by `variables_from_torch`:
    CIFAR and STL10 (backbone `f.*`, projection head `g.*`) and ImageNet100 (backbone `encoder_q.*`, head
    `encoder_q.fc.*`; the momentum encoder and the queue are left out).

    Loading never runs code from the file, see `read_torch_file`.

    Args:
      path: of the file.

    Returns:
      The encoder, its variables and the epoch.

    Raises:
      ImportError: if torch isn't installed.
      OSError: if the file can't be read.
      ValueError: if it isn't such a checkpoint.
    """
    checkpoint = read_torch_file(path)
    try:
        backbone_state, head_state = _split_official(checkpoint)
        backbone, backbone_variables = _backbone_from_torch(backbone_state)
        head, head_variables = _head_from_torch(head_state)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r}: {error}") from error
    variables = {
        collection: {
            name: part[collection]
            for name, part in (("backbone", backbone_variables), ("head", head_variables))
            if collection in part
        }
        for collection in ("params", "batch_stats")
    }
    epoch = checkpoint.get("epoch")
    return TorchCheckpoint(Encoder(backbone, head), variables, epoch if isinstance(epoch, int) else None)


def _split_official(checkpoint: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The official state dict -> the backbone's with torchvision names, the head's with the names of a Sequential."""
    query = find_parts(checkpoint, r"encoder_q\.conv1\.weight")
    if query:
        state = part_of(query.entries, query.where, "encoder_q.").entries
        backbone = {name: x for name, x in state.items() if not name.startswith("fc.")}
        return backbone, part_of(state, query.where, "fc.").entries
    whole = find_parts(checkpoint, r"f\.0\.weight")
    if whole:
        names = children(3)  # there is no max-pool among them
        backbone, head = {}, {}
        for name, value in whole.entries.items():
            part, _, rest = name.partition(".")
            index, _, leaf = rest.partition(".")
            if part == "f":
                backbone[f"{names.get(index, index)}.{leaf}"] = value
            elif part == "g":
                head[rest] = value
            else:
                raise ValueError(f"unexpected entry {name!r} beside 'f.*' and 'g.*' in the checkpoint's state dict")
        return backbone, head
    other = find_backbone(checkpoint)
    hint = "; variables_from_torch reads a backbone alone" if "conv1.weight" in other.entries else ""
    raise ValueError(
        f"neither official layout ('f.*', 'g.*' or 'encoder_q.*'): names{other.where} are {listed(other.entries)}{hint}"
    )


def _backbone_from_torch(state_dict: Any) -> tuple[ResNet, dict[str, Any]]:
    return resnet_of(find_backbone(state_dict))


def resnet_of(part: Part) -> tuple[ResNet, dict[str, Any]]:
    """The module and its variables from the entries of a ResNet, as `find_backbone` gives them.

    Raises:
      ValueError: as `variables_from_torch`.
    """
    state = {
        name: to_array(name, value)
        for name, value in part.entries.items()
        if not name.startswith(CLASSIFIERS) and not name.endswith(COUNTERS)
    }
    blocks = {match.groups() for name in state if (match := re.match(r"layer(\d+)\.(\d+)\.", name))}
    stages = sorted({int(stage) for stage, _ in blocks})
    conv1 = state.get("conv1.weight")
    stem = {3: "cifar", 7: "imagenet"}.get(conv1.shape[-1]) if conv1 is not None and conv1.ndim == 4 else None
    if conv1 is None or stem is None or not stages or stages != list(range(1, len(stages) + 1)):
        found = "none" if conv1 is None else conv1.shape
        raise ValueError(
            "not a ResNet state dict with torchvision names: needs conv1.weight with a 3x3 or 7x7 kernel, and layer1,"
            f" layer2, ...; conv1.weight is {found}, names{part.where} are {listed(state)}"
        )
    resnet = ResNet(
        stage_sizes=tuple(sum(int(stage) == s for stage, _ in blocks) for s in stages),
        bottleneck="layer1.0.conv3.weight" in state,
        width=conv1.shape[0],
        stem=stem,
    )
    return resnet, _fill(resnet, jnp.zeros((1, 32, 32, 3)), state, _torch_name, part.where)


def _head_from_torch(state_dict: Mapping[str, Any]) -> tuple[ProjectionHead, dict[str, Any]]:
    """From the names of `nn.Sequential(Linear, [BatchNorm1d,] ReLU, ..., Linear)`: indices as modules."""
    state = {name: to_array(name, x) for name, x in state_dict.items() if not name.endswith("num_batches_tracked")}
    indices = sorted({int(name.split(".")[0]) for name in state if name.split(".")[0].isdecimal()})
    linears = [f"{i}.weight" for i in indices if f"{i}.weight" in state and state[f"{i}.weight"].ndim == 2]
    if not linears:
        raise ValueError(f"no projection head of linear layers in the checkpoint: {listed(state)}")
    sizes = [state[name].shape[0] for name in linears]
    batch_norm = any(name.endswith("running_mean") for name in state)
    head = ProjectionHead(tuple(sizes[:-1]), sizes[-1], batch_norm)

    example = jnp.zeros((1, state[linears[0]].shape[1]))
    return head, _fill(head, example, state, lambda path: _head_name(path, batch_norm))


def _head_name(path: Path, batch_norm: bool) -> str:
    """("params", "linear1", "kernel") -> "3.weight", in a Sequential with batch norm."""
    module, index = re.fullmatch(r"(linear|bn)(\d+)", path[1]).groups()  # type: ignore[union-attr]
    position = int(index) * (3 if batch_norm else 2) + (module == "bn")
    return f"{position}.{_TORCH_LEAVES[path[-1]]}"


def _leaves(variables: Mapping[str, Any]) -> dict[Path, Any]:
    return {
        (collection, *path): value
        for collection in ("params", "batch_stats")
        for path, value in flax.traverse_util.flatten_dict(dict(variables.get(collection, {}))).items()
    }


def _fill(
    module: nn.Module, example: jax.Array, state: Mapping[str, np.ndarray], torch_name: Any, where: str = ""
) -> dict[str, Any]:
    """The module's variables taken from `state`, all of it, checked by name and shape."""
    kind = f"torch {type(module).__name__} weights{where}"
    shapes = flax.traverse_util.flatten_dict(jax.eval_shape(module.init, jax.random.key(0), example))
    names = {path: torch_name(path) for path in shapes}
    missing, unexpected = set(names.values()) - set(state), set(state) - set(names.values())
    if missing or unexpected:
        raise ValueError(f"{kind}: missing {listed(missing)}; unexpected {listed(unexpected)}")
    leaves = {path: _from_torch_layout(state[name]) for path, name in names.items()}
    for path, name in names.items():
        if leaves[path].shape != shapes[path].shape:
            wanted = _to_torch_layout(np.empty(shapes[path].shape)).shape
            raise ValueError(f"{kind}: {name} has shape {state[name].shape}, expected {wanted}")
    return flax.traverse_util.unflatten_dict(leaves)


def _torch_name(path: Path) -> str:
    """("params", "layer1_0", "downsample_conv", "kernel") -> "layer1.0.downsample.0.weight"."""
    modules = ".".join(path[1:-1])
    modules = re.sub(r"^layer(\d+)_", r"layer\1.", modules)
    modules = modules.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return f"{modules}.{_TORCH_LEAVES[path[-1]]}"


def _from_torch_layout(x: np.ndarray) -> np.ndarray:
    """Convolutions [out, in, h, w] -> [h, w, in, out]; matrices [out, in] -> [in, out]."""
    return np.ascontiguousarray(x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T)


def _to_torch_layout(x: np.ndarray) -> np.ndarray:
    return x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
