"""Vision Transformers' weights to and from timm's names; torchvision's are read too. Nothing here imports torch."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from care_jax.models.state_dicts import PROJECTION_HEAD, Part, find_parts, listed, to_array
from care_jax.models.vit import VisionTransformer

# An entry of the first block: timm's (DINO, DeiT, MoCo v3 and solo-learn have the same), and torchvision's.
_TIMM = r"blocks\.0\.attn\.qkv\.weight"
_TORCHVISION = r"encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight"
_TO_TIMM = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.", "head."),
    (r"^encoder\.layers\.encoder_layer_", "blocks."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)
CLASSIFIERS = ("head.", "pre_logits.", f"{PROJECTION_HEAD}.")  # of timm's, and of torchvision's under timm's names
# Our module -> timm's. A scale is a weight; kernels are transposed.
_OF_A_BLOCK = {"ln1": "norm1", "ln2": "norm2", "linear1": "mlp.fc1", "linear2": "mlp.fc2"}
_PROJECTIONS = ("query", "key", "value")


def vit_to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A timm state dict from the variables of a `VisionTransformer`; `vit_from_torch` goes back, bit for bit.

    timm's model is `timm.models.vision_transformer.VisionTransformer(img_size, patch_size, embed_dim, depth, num_heads,
    num_classes=0)`, its other options as they are by default.

    Args:
      variables: {"params": ...}.

    Returns:
      timm's names to numpy arrays.
    """
    return {name: np.array(value, order="C") for name, value in _entries(variables["params"]).items()}


def find_vit(state_dict: Any) -> Part | None:
    """The one Vision Transformer in a state dict, with timm's names; None where there is none.

    Raises:
      ValueError: it is no mapping, its names are no strings, or it holds several.
    """
    theirs = find_parts(state_dict, _TORCHVISION, trained=True)
    if theirs:
        return theirs._replace(entries={_renamed(name): value for name, value in theirs.entries.items()})
    return find_parts(state_dict, _TIMM, trained=True)


def vit_of(part: Part, num_heads: int | None) -> tuple[VisionTransformer, dict[str, Any]]:
    """The module and its variables from the entries of a Vision Transformer, as `find_vit` gives them.

    The classifier is left out.

    Args:
      part: timm's names to numpy arrays or torch tensors.
      num_heads: of the attention, which no name and no shape tells; None, and where the channels don't divide by it,
        for 64 channels a head.

    Returns:
      The module, and {"params": ...}, numpy float32.

    Raises:
      ValueError: naming what is missing, unexpected or misshapen.
    """
    kind = f"torch VisionTransformer weights{part.where}"
    state = {name: to_array(name, x) for name, x in part.entries.items() if not name.startswith(CLASSIFIERS)}
    depth = len({match[1] for name in state if (match := re.match(r"blocks\.(\d+)\.", name))})
    patches = state.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4 or patches.shape[2] != patches.shape[3]:
        raise ValueError(f"{kind}: patch_embed.proj.weight is {None if patches is None else patches.shape}")
    size, patch_size = patches.shape[0], patches.shape[-1]
    if not num_heads or size % num_heads:
        num_heads = size // 64 if size % 64 == 0 else 1
    count = state["pos_embed"].shape[1] - 1 if "pos_embed" in state and state["pos_embed"].ndim == 3 else 0
    side = math.isqrt(count)
    if not side or side * side != count:
        raise ValueError(
            f"{kind}: pos_embed is not that of a class token and of a square of patches, {count} positions"
        )
    module = VisionTransformer(depth, num_heads, size // num_heads, patch_size)
    image = jax.ShapeDtypeStruct((1, side * patch_size, side * patch_size, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    same = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    wanted = {name: value.shape for name, value in _entries(same["params"]).items()}
    missing, unexpected = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if missing or unexpected:
        raise ValueError(f"{kind}: missing {listed(missing)}; unexpected {listed(unexpected)}")
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise ValueError(f"{kind}: {name} has shape {state[name].shape}, expected {shape}")
    return module, {"params": _params(state, depth, num_heads, side)}


def _entries(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    size = len(params["class_token"])
    positions = np.reshape(params["position_embedding"], (-1, size))
    state = {
        "cls_token": np.reshape(params["class_token"], (1, 1, size)),
        "pos_embed": np.concatenate([np.reshape(params["class_position"], (1, size)), positions])[None],
        "patch_embed.proj.weight": np.transpose(params["patch_embedding"]["kernel"], (3, 2, 0, 1)),
        "patch_embed.proj.bias": params["patch_embedding"]["bias"],
    } | _layer("norm", params["ln"])
    for i in range(sum(name.startswith("block") for name in params)):
        block = params[f"block{i}"]
        for ours, theirs in _OF_A_BLOCK.items():
            state |= _layer(f"blocks.{i}.{theirs}", block[ours])
        attention = block["attention"]
        projections = [attention[name] for name in _PROJECTIONS]
        state[f"blocks.{i}.attn.qkv.weight"] = np.concatenate(
            [np.reshape(layer["kernel"], (size, size)).T for layer in projections]
        )
        state[f"blocks.{i}.attn.qkv.bias"] = np.concatenate([np.reshape(layer["bias"], size) for layer in projections])
        state[f"blocks.{i}.attn.proj.weight"] = np.reshape(attention["out"]["kernel"], (size, size)).T
        state[f"blocks.{i}.attn.proj.bias"] = attention["out"]["bias"]
    return state


def _params(state: Mapping[str, np.ndarray], depth: int, num_heads: int, side: int) -> dict[str, Any]:
    size = state["norm.bias"].size
    width = size // num_heads
    params: dict[str, Any] = {
        "class_token": state["cls_token"][0, 0],
        "class_position": state["pos_embed"][0, 0],
        "position_embedding": state["pos_embed"][0, 1:].reshape(side, side, size),
        "patch_embedding": {
            "kernel": np.ascontiguousarray(state["patch_embed.proj.weight"].transpose(2, 3, 1, 0)),
            "bias": state["patch_embed.proj.bias"],
        },
        "ln": _of_layer(state, "norm"),
    }
    for i in range(depth):
        block: dict[str, Any] = {ours: _of_layer(state, f"blocks.{i}.{theirs}") for ours, theirs in _OF_A_BLOCK.items()}
        kernels = np.split(state[f"blocks.{i}.attn.qkv.weight"], 3)
        biases = np.split(state[f"blocks.{i}.attn.qkv.bias"], 3)
        out = _of_layer(state, f"blocks.{i}.attn.proj")
        block["attention"] = {
            name: {
                "kernel": np.ascontiguousarray(kernel.T).reshape(size, num_heads, width),
                "bias": bias.reshape(num_heads, width),
            }
            for name, kernel, bias in zip(_PROJECTIONS, kernels, biases, strict=True)
        } | {"out": {"kernel": out["kernel"].reshape(num_heads, width, size), "bias": out["bias"]}}
        params[f"block{i}"] = block
    return params


def _layer(name: str, layer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    weight = layer["scale"] if "scale" in layer else np.transpose(layer["kernel"])
    return {f"{name}.weight": weight, f"{name}.bias": layer["bias"]}


def _of_layer(state: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    weight = state[f"{name}.weight"]
    named = {"scale": weight} if weight.ndim == 1 else {"kernel": np.ascontiguousarray(weight.T)}
    return named | {"bias": state[f"{name}.bias"]}


def _renamed(name: str) -> str:
    for pattern, name_of_timm in _TO_TIMM:
        name = re.sub(pattern, name_of_timm, name)
    return name
