"""`model.init_from`: the first weights of a run's backbone, from a file or another run, and what is said about them."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen

from care_jax import models, trained
from care_jax.devices import agreement
from care_jax.errors import UserError
from care_jax.experiment.architecture import make_encoder
from care_jax.experiment.choice import filled
from care_jax.experiment.config import ConfigError
from care_jax.experiment.settings import of_clouds
from care_jax.models.deep_sets import POOLINGS
from care_jax.models.resnet import STEMS
from care_jax.models.state_dicts import listed
from care_jax.storage import local_path
from care_jax.train.state import params_sha256

_ANY_WIDTH = 64  # where the file's is taken
_POSITIONS = ("params", "position_embedding")


class InitialWeights(NamedTuple):
    """What a backbone begins with.

    Attributes:
      variables: of the backbone, {"params": ..., "batch_stats": ...}, NumPy, with the shapes that the run's has.
      told: lines for the user: what matched, and what did not.
      normalisation: "mean" and "std" of the images that it was trained on, where they are recorded.
      chosen: settings of the run that have no value and follow from it, by dotted names.
    """

    variables: dict[str, Any]
    told: tuple[str, ...]
    normalisation: Mapping[str, Any]
    chosen: dict[str, Any]

    def lines(self, data: ml_collections.ConfigDict) -> list[str]:
        """What is told, to a run with these settings of the data, all of which have a value."""
        other = {name: value for name, value in self.normalisation.items() if list(value) != list(data[name])}
        shown = ", ".join(f"data.{name}={tuple(value)}" for name, value in other.items())
        return [*self.told, *([f"model.init_from: its images were normalised otherwise: {shown}"] if other else [])]


class _Source(NamedTuple):
    """A backbone as it was found; `mean` and `std` are [3] where they are recorded, `notes` for the user."""

    module: linen.Module
    variables: dict[str, Any]
    where: str
    unused: tuple[str, ...]
    clouds: bool  # whether it embeds clouds of points, not images
    normalisation: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()


def for_run(config: ml_collections.ConfigDict, workdir: Path) -> InitialWeights | None:
    """What `read` gives, the same in every process; None where the run has a checkpoint, and goes on from that.

    Raises:
      ConfigError: as `read`.
      DistributedError: the processes read different weights.
    """
    if config.model.init_from is None:
        return None
    begun = any(folder.name.isdigit() for folder in (workdir / "checkpoints").glob("*"))
    found = None if begun else read(config)
    if not agreement.is_alone():
        weights = "not read: there is a checkpoint" if found is None else f"weights {params_sha256(found.variables)}"
        agreement.agree("initial weights", {"config.model.init_from": weights})
    return found


def read(config: ml_collections.ConfigDict) -> InitialWeights | None:
    """The weights that `model.init_from` names; None where it has no value. No code of a file is run.

    A folder is that of a run, or of one of its checkpoints. A file is told by what it holds: `care-jax export` writes
    all kinds that are read.

    Raises:
      ConfigError: it can't be read, or is of another architecture: one line with what to set.
    """
    text = config.model.init_from
    if text is None:
        return None
    name = f"model.init_from={text}"
    path = local_path(text, "config.model.init_from")
    with_width = config if config.model.width is not None else filled(config, {"model.width": _ANY_WIDTH})
    backbone = make_encoder(with_width).backbone
    chosen: dict[str, Any] = {}
    try:
        source = _of_run(path) if path.is_dir() else _of_file(path, backbone)
        found = flax.traverse_util.flatten_dict(source.variables)
        leaves = {path: _floats(value) for path, value in found.items()}
    except ImportError as error:
        raise ConfigError(f"config.{name}: {error}") from error
    except OSError as error:
        raise ConfigError(f"config.{name} can't be read: {error.strerror or error}") from error
    except (UserError, ValueError) as error:
        raise ConfigError(f"config.{name}: {error}") from error
    clouds = of_clouds(config)
    if source.clouds != clouds:
        kinds = ("clouds of points", "images") if clouds else ("images", "clouds of points")
        raise ConfigError(
            f"config.{name} holds {_described(source.module)}, which embeds {kinds[1]}, and config.model.backbone="
            f"{config.model.backbone} embeds {kinds[0]}: give weights that were trained on {kinds[0]}"
        )
    if config.model.width is None and _width(source.module) is not None and _settings(source.module):
        chosen = {"model.width": _width(source.module)}
        backbone = make_encoder(filled(config, chosen)).backbone
    shape = (1, 2, 4) if clouds else (1, config.data.image_size, config.data.image_size, 3)
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    own = flax.traverse_util.flatten_dict(shapes)
    wanted = {path: leaf.shape for path, leaf in own.items()}
    notes = [*source.notes, *_resize_positions(leaves, wanted)]
    before, here = (getattr(_network(module), "pooling", None) for module in (source.module, backbone))
    if clouds and before != here:  # no array tells
        notes.append(f"its points were pooled by their {before}, here by their {here}")
    if {path: leaf.shape for path, leaf in leaves.items()} != wanted:
        raise ConfigError("; ".join((f"config.{name} {_misfit(source.module, backbone)}", *source.notes)))
    leaves = {path: leaf.astype(own[path].dtype, copy=False) for path, leaf in leaves.items()}
    line = (
        f"{name}: backbone {len(wanted)} of {len(wanted)} arrays{source.where}; not used: {listed(source.unused)}; "
        "the projection head starts at random"
    )
    told = line, *(f"model.init_from: {note}" for note in notes)
    return InitialWeights(flax.traverse_util.unflatten_dict(leaves), told, source.normalisation, chosen)


def _of_run(place: Path) -> _Source:
    model = trained.load(place)
    variables = {name: parts["backbone"] for name, parts in model.variables.items() if "backbone" in parts}
    others = tuple(sorted({part for parts in model.variables.values() for part in parts} - {"backbone"}))
    clouds = of_clouds(model.config)
    normalisation = {} if clouds else {name: model.config.data[name] for name in ("mean", "std")}
    return _Source(model.encoder.backbone, variables, f" of step {model.step}", others, clouds, normalisation)


def _of_file(path: Path, backbone: linen.Module) -> _Source:
    tree, recorded = _opened(path)
    run, preprocessing = recorded["run"], recorded["preprocessing"]
    normalisation = {name: preprocessing[name] for name in ("mean", "std") if name in preprocessing}
    own, clouds = None, run.get("backbone") in models.CLOUD_BACKBONES
    backbones, further = (models.CLOUD_BACKBONES, "pooling") if clouds else (models.BACKBONES, "stem")
    if {"backbone", "width", further} <= run.keys() and run["backbone"] in backbones:
        own = backbones[run["backbone"]](**{name: run[name] for name in ("width", further)}, dtype=jnp.float32)
    if isinstance(tree, Mapping) and "variables" in tree:  # of a Flax file
        if own is None:
            raise ValueError(
                f"it holds a {run.get('backbone')}, which is no model.backbone here: "
                f"{', '.join((*models.BACKBONES, *models.CLOUD_BACKBONES))}"
            )
        whole = tree["variables"]
        parts = {name: values["backbone"] for name, values in whole.items() if "backbone" in values}
        return _Source(own, parts or whole, "", ("head",) if parts else (), clouds, normalisation)
    found = models.pretrained_backbone(tree, num_heads=getattr(own, "num_heads", None))
    notes: tuple[str, ...] = ()
    if own is None and isinstance(found.module, models.VisionTransformer):
        heads, width = found.module.num_heads, found.module.width
        # Those of the configuration only where its width agrees: any number that divides the channels would load.
        if isinstance(backbone, models.VisionTransformer) and backbone.num_features == heads * width:
            heads, width = backbone.num_heads, backbone.width
            found = models.pretrained_backbone(tree, num_heads=heads)
        told = f"taken to be {heads}, of {width} channels each"
        notes = (f"a state dict does not tell the number of attention heads: {told}",)
    return _Source(found.module, found.variables, found.where, found.unused, False, normalisation, notes)


def _opened(path: Path) -> tuple[Any, dict[str, Mapping[str, Any]]]:
    """What a file holds, whatever its name, and what one of our exports records beside it."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        tree, recorded = _read_safetensors(path)
    elif start[:1] and 0x81 <= start[0] <= 0x8F:  # a small mapping, as msgpack has it
        recorded = tree = _read_msgpack(path)
    else:
        recorded = tree = models.read_torch_file(path)
    if not isinstance(recorded, Mapping):
        recorded = {}
    found = {name: recorded.get(name) for name in ("preprocessing", "run")}
    return tree, {name: value if isinstance(value, Mapping) else {} for name, value in found.items()}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError("reading it needs safetensors: pip install 'care_jax[train]'") from error

    try:
        with safe_open(path, framework="numpy") as file:
            tree = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"it can't be read as safetensors: {error}") from error
    recorded = {}
    for name, text in metadata.items():
        with suppress(ValueError):  # other people's strings
            recorded[name] = json.loads(text)
    return tree, recorded


def _read_msgpack(path: Path) -> Any:
    try:
        tree = flax.serialization.msgpack_restore(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # msgpack raises many kinds
        raise ValueError(f"it can't be read as Flax's msgpack: {error}") from error
    if not isinstance(tree, dict) or not all(isinstance(tree.get(name), dict) for name in ("variables", "run")):
        raise ValueError("a Flax file must be one that `care-jax export --to=flax` wrote")
    return tree


def _resize_positions(leaves: dict[tuple[str, ...], np.ndarray], wanted: Mapping[tuple[str, ...], Any]) -> list[str]:
    """Brings position embeddings to the grid of this run's images, as the network itself would; says so."""
    if _POSITIONS not in leaves or _POSITIONS not in wanted:
        return []
    shape, before = wanted[_POSITIONS], leaves[_POSITIONS].shape
    if before == shape or before[2:] != shape[2:]:
        return []
    leaves[_POSITIONS] = np.asarray(jax.image.resize(leaves[_POSITIONS], shape, "bilinear"))
    return [f"position embeddings of {before[0]} x {before[1]} patches are interpolated to {shape[0]} x {shape[1]}"]


def _floats(value: Any) -> np.ndarray:
    """An array as float32, or as the float64 that it is."""
    return np.asarray(value, np.float64 if getattr(value, "dtype", None) == np.float64 else np.float32)


def _misfit(found: linen.Module, wanted: linen.Module) -> str:
    """What was found, what is configured, and what to set."""
    settings = _settings(found)
    if not settings:
        here = f"the configuration has {_described(wanted)}"
        return f"holds {_described(found)}, which is no model.backbone; {here}: take another file"
    before = _settings(wanted)
    flags = [f"--config.model.{name}={value}" for name, value in settings.items() if before.get(name) != value]
    here = f"the configuration has {_described(wanted)}"
    return f"holds {_described(found)}, {here}: give {' '.join(flags)}, or take another file"


def _described(module: linen.Module) -> str:
    settings = _settings(module)
    if settings:
        further = "{pooling} pooling" if "pooling" in settings else "the {stem} stem"
        return f"a {{backbone}} of width {{width}} with {further}".format(**settings)
    if isinstance(module, models.ResNet):
        blocks = "bottleneck" if module.bottleneck else "basic"
        return f"a ResNet of {module.stage_sizes} {blocks} blocks of width {module.width} with the {module.stem} stem"
    if isinstance(module, models.VisionTransformer):
        return (
            f"a Vision Transformer of {module.depth} blocks, {module.num_features} channels and patches of "
            f"{module.patch_size} pixels"
        )
    return f"a {type(module).__name__}"


def _settings(module: linen.Module) -> dict[str, Any]:
    """`model.backbone`, `width` and `stem` or `pooling` that make this network; empty where none do."""
    width, dtype = _width(module) or 0, getattr(_network(module), "dtype", jnp.float32)
    for backbones, further, values in (
        (models.BACKBONES, "stem", STEMS),
        (models.CLOUD_BACKBONES, "pooling", POOLINGS),
    ):
        for name, make in backbones.items():
            for value in values:
                with suppress(ValueError, TypeError):  # a backbone of one's own may have neither
                    if make(**{further: value}, width=width, dtype=dtype) == module:
                        return {"backbone": name, further: value, "width": width}
    return {}


def _width(module: linen.Module) -> int | None:
    """`model.width` of a backbone, where it has one."""
    network = _network(module)
    return network.point_sizes[0] if isinstance(network, models.DeepSet) else getattr(network, "width", None)


def _network(module: linen.Module) -> linen.Module:
    return module.network if isinstance(module, models.CloudBackbone) else module
