"""Settings without a value that a run chooses by itself: for the size of the data set and the kind of device.

They are chosen once, written into config.json, and kept when the run goes on, wherever that is.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
from jax.sharding import Mesh
from ml_collections.config_dict import RequiredValueError

from care_jax.data.colors import Colors
from care_jax.devices import cores
from care_jax.experiment.settings import CHOSEN, COLORS, ONLY_IMAGES, of_clouds

# Images of 64 x 64 that a run of configs/image_folder.py sees by its end: within an hour on two CPU cores, minutes on a
# GPU. An image of another size counts by its pixels, a cloud of points as one.
_BUDGET = {"cpu": 120_000, "accelerator": 1_000_000}
_SIDE = 64
_MOST_EPOCHS = 400.0
_LARGEST_BATCH = {"cpu": 64, "accelerator": 256}
_SMALLEST_BATCH = 16
_BATCHES_AN_EPOCH = 4  # at least, where the data set is small
_WIDTH = {"cpu": 32, "accelerator": 64}
_GROUP = 16  # images, at least; as in the paper
_OF_DATA_SET = "dataset"
_ANY_COLORS = Colors((0.5,) * 3, (0.25,) * 3)


def open_colors(config: ml_collections.ConfigDict) -> None:
    """Takes "dataset" out of data.mean and data.std: another word for no value, computed from the training images."""
    for name in COLORS:
        value = _unchecked(config, name)
        word = value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value
        if isinstance(word, str) and word == _OF_DATA_SET:
            with config.ignore_type():
                config.data[_key(name)] = None


def filled(config: ml_collections.ConfigDict, values: dict[str, Any]) -> ml_collections.ConfigDict:
    """A configuration with other values for some settings, by their dotted names; itself where there are none."""
    if not values:
        return config
    config = config.copy_and_resolve_references()
    with config.ignore_type():
        config.update_from_flattened_dict(values)
    return config


def without_value(config: ml_collections.ConfigDict) -> list[str]:
    """The settings that are to be chosen."""
    without = ONLY_IMAGES if of_clouds(config) else ()
    return [name for name in CHOSEN if name not in without and _value(config, name) is None]


def choose(
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    num_examples: int,
    colors_of: Callable[[ml_collections.ConfigDict], Colors] = lambda _: _ANY_COLORS,
) -> dict[str, Any]:
    """Values for the settings that have none.

    Args:
      config: of the run; every setting that has a value has one of its type.
      mesh: the devices; their number divides the batch.
      num_examples: training images.
      colors_of: called where data.mean or data.std has no value, with a configuration in which all have some.

    Returns:
      By dotted names.
    """
    kind = "cpu" if mesh.devices.flat[0].platform == "cpu" else "accelerator"
    wanted = without_value(config)
    found: dict[str, Any] = {}
    if "model.width" in wanted:
        found["model.width"] = _WIDTH[kind]
    batch_size, part = config.train.batch_size, config.equivariance.batch_size
    if batch_size is None:
        # Of a CPU, however many cores it has, the same.
        devices = math.lcm(mesh.size, cores.MOST) if kind == "cpu" else mesh.size
        batch_size = found["train.batch_size"] = _batch_size(config, num_examples, _LARGEST_BATCH[kind], devices)
    if "equivariance.num_groups" in wanted:
        images = batch_size if part is None else part
        found["equivariance.num_groups"] = math.gcd(images, 2 ** (max(images // _GROUP, 1).bit_length() - 1))
    if "train.epochs" in wanted:
        images = _BUDGET[kind] * (1 if of_clouds(config) else _SIDE**2 / config.data.image_size**2)
        found["train.epochs"] = float(min(max(round(images / num_examples), 1), _MOST_EPOCHS))
    colors = [name for name in COLORS if name in wanted]
    if colors:
        of_images = colors_of(filled(config, found | {name: getattr(_ANY_COLORS, _key(name)) for name in colors}))
        found |= {name: getattr(of_images, _key(name)) for name in colors}
    return found


def described(chosen: Mapping[str, Any]) -> str:
    """As flags that would give the same."""
    return " ".join(f"--config.{name}={str(value).replace(' ', '')}" for name, value in chosen.items())


def cut_batches(config: ml_collections.ConfigDict, chosen: int = 0) -> list[int]:
    """What devices have to divide: (micro-)batches that have a value.

    Args:
      config: settings that nobody has checked yet.
      chosen: the batch, where it has no value; 0 for none.
    """
    sizes = [_number(config, "train.batch_size") or chosen]
    if _unchecked(config, "equivariance.weight"):
        sizes.append(_number(config, "equivariance.batch_size"))
    parts = _number(config, "train.micro_batches")
    return [size // parts for size in sizes if size and parts]


def smaller(config: ml_collections.ConfigDict, mesh: Mesh, num_examples: int) -> str:
    """The largest batch that so many examples make and the devices and groups divide, as advice; empty where none is.

    Args:
      config: filled in.
      mesh: the devices.
      num_examples: that there are.
    """
    unit, least = _unit(config, mesh.size)
    size = num_examples // unit * unit
    if size < max(least, config.equivariance.batch_size or 1):
        return ""
    return f", or give a smaller batch, --config.train.batch_size={size} for instance"


def _unit(config: ml_collections.ConfigDict, num_devices: int) -> tuple[int, int]:
    """What a batch must be a multiple of, and the least that it may be."""
    unit, least = num_devices * config.train.micro_batches, config.equivariance.batch_size or 1
    groups = config.equivariance.num_groups
    if groups is not None and config.equivariance.batch_size is None:
        unit, least = math.lcm(unit, groups), 2 * groups  # groups of one image have no pairs
    return unit, least


def _batch_size(config: ml_collections.ConfigDict, num_examples: int, largest: int, num_devices: int) -> int:
    """A power of two, brought to the next multiple of what must divide it."""
    images = max(min(largest, num_examples, max(num_examples // _BATCHES_AN_EPOCH, _SMALLEST_BATCH)), 1)
    images = 2 ** (images.bit_length() - 1)
    unit, least = _unit(config, num_devices)
    return -(-max(images, least) // unit) * unit


def _key(name: str) -> str:
    return name.rpartition(".")[2]


def _value(config: ml_collections.ConfigDict, name: str) -> Any:
    section, _, key = name.rpartition(".")
    return config[section][key]


def _unchecked(config: ml_collections.ConfigDict, name: str) -> Any:
    """None for what is not there, which is refused where settings are checked."""
    try:
        return _value(config, name)
    except (LookupError, AttributeError, TypeError, RequiredValueError):
        return None


def _number(config: ml_collections.ConfigDict, name: str) -> int:
    value = _unchecked(config, name)
    return value if isinstance(value, int) and value > 0 else 0
