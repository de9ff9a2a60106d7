"""Exported files: what lies in them, and how each kind is written, whole or not at all."""

import io
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import ml_collections
import numpy as np

from care_jax import models
from care_jax.augment import image_spec
from care_jax.data.chains import SCALE
from care_jax.experiment import build
from care_jax.experiment.inputs import stored_side
from care_jax.experiment.settings import of_clouds
from care_jax.export.lines import ExportError
from care_jax.models.state_dicts import PROJECTION_HEAD as HEAD
from care_jax.storage import replace_file

KINDS = ("torch", "safetensors", "flax")


def describe(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """What an image, or a cloud of points, went through when the run was evaluated: numbers, strings and lists alone.

    `resize` is the shorter side, in pixels, that an image is resized to; its central square of `image_size` is taken,
    divided by 255, and normalised by `mean` and `std`, by channel. The others say in words how a file became 8-bit RGB
    before.

    Of a cloud `points` says what a row of it is, in words. Of the proteins `angstrom` is the unit of the coordinates,
    and `residues` the lengths of the pieces that chains are cut into, each about its own centre.
    """
    if of_clouds(config):
        row = "x, y, z, 1 of a point; 0, 0, 0, 0 where there is none"
        if config.data.name != "proteins":
            return {"points": f"{row}; as data set {config.data.name} has them"}
        return {
            "points": f"{row}; the Cα atoms of a piece of a chain, less their mean",
            "angstrom": SCALE,
            "residues": sorted(set(config.data.window_lengths)),
        }
    spec = image_spec(build.evaluation_spec(config))
    return {
        "orientation": "upright, as Exif says, or else XMP",
        "transparent": "over white",
        "sixteen_bits": "gray is divided by 257 and rounded; of colours the high byte is kept",
        "image_size": spec.size,
        "resize": round(spec.size / spec.center_fraction),
        "interpolation": "bilinear",
        "mean": [float(x) for x in spec.mean],
        "std": [float(x) for x in spec.std],
    }


def enlarged(config: ml_collections.ConfigDict) -> str:
    """Where evaluation enlarged what it saw, a line that `describe` differs in that; else empty.

    Images that are kept on the device lose what is between their own size and that of `stored_size` pixels before the
    central square is cut, which has fewer pixels then than the encoder takes.
    """
    if of_clouds(config) or config.augment.placement != "device":
        return ""
    stored, seen = stored_side(config), round(config.data.image_size / config.evaluate.center_fraction)
    if stored >= seen:
        return ""
    return (
        f"the run kept its images at {stored} x {stored} pixels, of which evaluation enlarged the central "
        f"{config.evaluate.center_fraction:.3g}; an image that goes through what is described here is sharper, so its "
        f"features differ a little from the run's. data.stored_size={seen} makes them the same from the start of a run"
    )


def check_kind(kind: str, backbone: str = "") -> None:
    """Whether the packages that write this kind are there.

    Args:
      kind: as the flag.
      backbone: by its name; "" for one of images.

    Raises:
      ExportError: there is no such kind, or none for this backbone; or a package is missing: the line names the extra.
    """
    if kind not in KINDS:
        raise ExportError(f"{f'--to={kind}' if kind else '--to is missing'}: choose one of {', '.join(KINDS)}")
    if kind != "flax" and backbone in models.CLOUD_BACKBONES:
        raise ExportError(
            f"--to={kind}: neither torchvision nor timm has a {backbone}, which embeds clouds of points; --to=flax "
            "writes every backbone"
        )
    if kind == "torch" and find_spec("torch") is None:
        raise ExportError(
            "--to=torch needs torch: pip install 'care_jax[torch]'; or --to=safetensors, which torch loads too"
        )
    if kind == "safetensors" and find_spec("safetensors") is None:
        raise ExportError("--to=safetensors needs safetensors: pip install 'care_jax[train]'")


def write(
    path: Path,
    kind: str,
    variables: Mapping[str, Any],
    *,
    head: bool,
    preprocessing: Mapping[str, Any],
    run: Mapping[str, Any],
) -> int:
    """Writes an encoder's weights; what was there before is replaced at once.

    Args:
      path: of the file.
      kind: one of `KINDS`.
      variables: of the encoder, {"params": {"backbone": ..., "head": ...}, "batch_stats": ...}.
      head: the projection head too, not the backbone alone.
      preprocessing: of `describe`.
      run: numbers, strings and lists about where the weights come from.

    Returns:
      How many arrays it holds.

    Raises:
      OSError: it can't be written; what was there before still is.
    """
    backbone, projection = ({c: v[part] for c, v in variables.items() if part in v} for part in ("backbone", "head"))
    if kind == "flax":
        tree = dict(variables) if head else backbone
        tree = jax.tree.map(np.asarray, {name: value for name, value in tree.items() if value})
        saved = {"variables": tree, "preprocessing": dict(preprocessing), "run": dict(run)}
        replace_file(path, flax.serialization.msgpack_serialize(saved))
        return len(jax.tree.leaves(tree))
    state = models.variables_to_torch(backbone)
    head_state = models.head_to_torch(projection) if head else {}
    write_kind = _torch if kind == "torch" else _safetensors
    replace_file(path, write_kind(state, head_state, {"preprocessing": dict(preprocessing), "run": dict(run)}))
    return len(state) + len(head_state)


def _torch(state: Mapping[str, Any], head: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    import torch

    content: dict[str, Any] = {"state_dict": {name: torch.from_numpy(value) for name, value in state.items()}, **about}
    if head:
        content[HEAD] = {name: torch.from_numpy(value) for name, value in head.items()}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _safetensors(state: Mapping[str, Any], head: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    tensors = {**state, **{f"{HEAD}.{name}": value for name, value in head.items()}}
    # "pt": whose layout it is, as Hugging Face's libraries ask. Metadata are strings.
    return save(tensors, {"format": "pt", **{name: json.dumps(value) for name, value in about.items()}})
