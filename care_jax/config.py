"""What a configuration may hold: every value is checked before any work starts.

The names a setting may take are handed in by the room that knows them (`build.py`).
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from care_jax.errors import UserError


class ConfigError(UserError, ValueError):
    """A setting that can't be used: the message names it, its value, and what to do."""


# What an int32 holds, as counts do on a device; and what a JAX seed may be.
_MAX_COUNT, _MAX_SEED = 2**31 - 1, 2**63 - 1
_MAX_EPOCHS = 1e6  # far from where their number of steps would overflow, and beyond every run
_SHOWN = 100  # characters of a value in a message


def _at_least(low: float) -> tuple[str, Any]:
    return f"must be at least {low:g}", lambda value: value >= low


_POSITIVE = ("must be above 0", lambda value: value > 0)
_SHARE = ("must be above 0 and below 1", lambda value: 0 < value < 1)
_FRACTION = ("must be above 0 and at most 1", lambda value: 0 < value <= 1)
_SEED = (f"must be at least 0 and at most {_MAX_SEED}", lambda value: 0 <= value <= _MAX_SEED)
_EPOCHS = (f"must be above 0 and at most {_MAX_EPOCHS:g}", lambda value: 0 < value <= _MAX_EPOCHS)
_EPOCHS_OR_NONE = (f"must be at least 0 and at most {_MAX_EPOCHS:g}", lambda value: 0 <= value <= _MAX_EPOCHS)
_ANY = ("", lambda value: True)

# Setting -> (its type, what it must satisfy and the test). Strings with a fixed choice are in `choices` of `validate`;
# the ranges of an augmentation are checked by AugmentSpec itself.
_SETTINGS: dict[str, tuple[type | tuple[type, int | None], tuple[str, Any]]] = {
    "seed": (int, _SEED),
    "data.name": (str, _ANY),
    "data.root": (str, _ANY),
    "data.image_size": (int, _at_least(8)),
    "data.stored_size": (int, _at_least(0)),
    "data.mean": ((float, 3), _ANY),
    "data.std": ((float, 3), _POSITIVE),
    "data.class_file": (str, _ANY),
    "data.download": (bool, _ANY),
    "data.test_fraction": (float, _SHARE),
    "augment.placement": (str, _ANY),
    "augment.num_threads": (int, _at_least(0)),
    "model.backbone": (str, _ANY),
    "model.stem": (str, _ANY),
    "model.width": (int, _at_least(1)),
    "model.dtype": (str, _ANY),
    "model.head_hidden_sizes": ((int, None), _at_least(1)),
    "model.head_size": (int, _at_least(2)),
    "model.head_batch_norm": (bool, _ANY),
    "model.head_output_batch_norm": (bool, _ANY),
    "model.remat": (bool, _ANY),
    "loss.method": (str, _ANY),
    "loss.temperature": (float, _POSITIVE),
    "loss.momentum": (float, ("must be at least 0 and at most 1", lambda value: 0 <= value <= 1)),
    "loss.queue_size": (int, _at_least(0)),
    "loss.off_diagonal_weight": (float, _at_least(0)),
    "loss.invariance_weight": (float, _at_least(0)),
    "loss.variance_weight": (float, _at_least(0)),
    "loss.covariance_weight": (float, _at_least(0)),
    "equivariance.term": (str, _ANY),
    "equivariance.on": (str, _ANY),
    "equivariance.group": (str, _ANY),
    "equivariance.weight": (float, _at_least(0)),
    "equivariance.num_groups": (int, _at_least(1)),
    "equivariance.draws": (str, _ANY),
    "equivariance.batch_size": (int, _at_least(0)),
    "optimizer.name": (str, _ANY),
    "optimizer.learning_rate": (float, _POSITIVE),
    "optimizer.momentum": (float, ("must be at least 0 and below 1", lambda value: 0 <= value < 1)),
    "optimizer.weight_decay": (float, _at_least(0)),
    "optimizer.decay": (str, _ANY),
    "optimizer.schedule": (str, _ANY),
    "optimizer.warmup_epochs": (float, _EPOCHS_OR_NONE),
    "optimizer.step_epochs": ((float, None), _EPOCHS),
    "optimizer.step_factor": (float, _FRACTION),
    "train.batch_size": (int, _at_least(2)),
    "train.micro_batches": (int, _at_least(1)),
    "train.steps_per_call": (int, _at_least(1)),
    "train.epochs": (float, _EPOCHS),
    "train.num_steps": (int, _at_least(0)),
    "train.log_every": (int, _at_least(1)),
    "train.evaluate_every_epochs": (float, _EPOCHS_OR_NONE),
    "train.checkpoint_every_epochs": (float, _EPOCHS_OR_NONE),
    "train.keep_last": (int, _at_least(1)),
    "evaluate.seed": (int, _SEED),
    "evaluate.batch_size": (int, _at_least(1)),
    "evaluate.center_fraction": (float, _FRACTION),
    "evaluate.knn_k": (int, _at_least(1)),
    "evaluate.knn_temperature": (float, _POSITIVE),
    "evaluate.num_augmentations": (int, _at_least(1)),
    "evaluate.probe.num_seeds": (int, _at_least(1)),
    "evaluate.probe.epochs": (int, _EPOCHS),
    "evaluate.probe.batch_size": (int, _at_least(1)),
    "evaluate.probe.optimizer": (str, _ANY),
    "evaluate.probe.learning_rate": (float, _POSITIVE),
    "evaluate.probe.momentum": (float, ("must be at least 0 and below 1", lambda value: 0 <= value < 1)),
    "evaluate.probe.weight_decay": (float, _at_least(0)),
    "evaluate.probe.schedule": (str, _ANY),
    "evaluate.probe.step_epochs": ((float, None), _EPOCHS),
    "evaluate.probe.step_factor": (float, _FRACTION),
}
_BRANCH_SETTINGS: dict[str, type | tuple[type, int]] = {
    "crop": str,
    "crop_scale": (float, 2),
    "crop_ratio": (float, 2),
    "center_fraction": float,
    "antialias": bool,
    "flip_probability": float,
    "jitter_probability": float,
    "brightness": float,
    "contrast": float,
    "saturation": float,
    "hue": float,
    "grayscale_probability": float,
    "blur_probability": float,
    "blur_kernel_size": int,
    "blur_sigma": (float, 2),
    "solarize_probability": float,
    "solarize_threshold": float,
    "rotation_degrees": float,
    "translation": float,
}
_RULES = _SETTINGS | {
    f"augment.{branch}.{name}": (kind, _ANY)
    for branch in ("invariance", "equivariance")
    for name, kind in _BRANCH_SETTINGS.items()
}
_SECTIONS = {name.rpartition(".")[0] for name in _RULES} - {""}


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All settings of a configuration by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ml_collections.ConfigDict)):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def validate(config: ml_collections.ConfigDict, choices: Mapping[str, Iterable[str]]) -> None:
    """Checks that every setting is there, of its type and in its range, and that they fit together.

    Args:
      config: as configs/base.py builds it.
      choices: setting -> the strings it may be.

    Raises:
      ConfigError: one line: the setting, its value, what to do.
    """
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(f"the configuration is {_shown(config)}; give a ConfigDict, as configs/base.py does")
    try:
        found = leaves(config)
    except ml_collections.config_dict.RequiredValueError as error:
        raise ConfigError(f"config has a setting without a value: {_shown(error)}") from error
    for name in found:
        if name in _SECTIONS:
            raise ConfigError(f"config.{name} is {_shown(found[name])}; it is a section, see configs/base.py")
        if name not in _RULES:
            raise ConfigError(f"config.{_printable(name)} is not a setting; configs/base.py lists them all")
    for name in _RULES:
        if name not in found:
            raise ConfigError(f"config.{name} is missing; start from configs/base.py, which has them all")
    for section in sorted(_SECTIONS):
        _check_section(config, section)
    for name, (kind, condition) in _RULES.items():
        _check(name, found[name], kind, condition)
    for name, allowed in choices.items():
        if found[name] not in allowed:
            raise ConfigError(f"config.{name} is {_shown(found[name])}; choose one of {', '.join(allowed)}")
    batch_size = config.train.batch_size
    part = config.equivariance.batch_size
    if part > batch_size:
        raise ConfigError(f"config.equivariance.batch_size is {part}, more than the batch of {batch_size}")
    groups = config.equivariance.num_groups
    if (part or batch_size) % groups:
        raise ConfigError(
            f"config.equivariance.num_groups is {groups}, which does not divide the {part or batch_size} images "
            f"of {'config.equivariance.batch_size' if part else 'config.train.batch_size'}"
        )
    if config.equivariance.weight and (part or batch_size) == groups:
        raise ConfigError(
            f"config.equivariance.num_groups is {groups}: groups of one image have no pairs; use fewer groups"
        )
    if config.data.stored_size and config.augment.placement in ("split", "decode"):
        raise ConfigError(
            "config.data.stored_size is for images kept on the device; with augment.placement="
            f"{config.augment.placement} leave it 0"
        )


def _check_section(config: ml_collections.ConfigDict, section: str) -> None:
    """Refuses a plain dictionary, whose settings could not be read as attributes."""
    value: Any = config
    for name in section.split("."):
        value = value[name]
        if not isinstance(value, ml_collections.ConfigDict):
            raise ConfigError(f"config.{section} is a {type(value).__name__}; make it a ConfigDict")


def _check(name: str, value: Any, kind: Any, condition: tuple[str, Any]) -> None:
    text, holds = condition
    if isinstance(kind, tuple):
        element, length = kind
        if not isinstance(value, (tuple, list)) or (length is not None and len(value) != length):
            wanted = f"{length} numbers" if length else "numbers"
            raise ConfigError(f"config.{name} is {_shown(value)}; give a tuple of {wanted}")
        for part in value:
            _check(name, part, element, condition)
        return
    # NumPy's numbers won't do: most are none of Python's, and the configuration is kept as JSON.
    if kind is float:
        fits = isinstance(value, (float, int)) and not isinstance(value, bool) and _is_finite(value)
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, kind)
    if not fits:
        wanted = {float: "a finite number", int: "a whole number", bool: "True or False", str: "a string"}[kind]
        raise ConfigError(f"config.{name} is {_shown(value)}; give {wanted}")
    if not holds(value):
        raise ConfigError(f"config.{name} is {_shown(value)}; it {text}")
    if kind is int and condition is not _SEED and value > _MAX_COUNT:
        raise ConfigError(f"config.{name} is {_shown(value)}; it must be at most {_MAX_COUNT}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def _shown(value: Any) -> str:
    """A value of whatever kind, as part of one line."""
    try:
        text = _printable(repr(value))
    except Exception:  # repr is the value's own code; and Python writes out no int of more than 4,300 digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _printable(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ, as `name: old -> new` lines; tuples and lists count as equal (JSON has no tuples)."""
    before, after = leaves(old), leaves(new)
    lines = []
    for name in sorted(before.keys() | after.keys()):
        left, right = before.get(name), after.get(name)
        if isinstance(left, (tuple, list)) and isinstance(right, (tuple, list)):
            left, right = list(left), list(right)
        if left != right:
            lines.append(f"config.{name}: {left!r} -> {right!r}")
    return lines


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """The configuration that the run in `workdir` was started with.

    Raises:
      ConfigError: there is none, or it can't be read.
    """
    path = workdir / "config.json"
    try:
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
        return ml_collections.ConfigDict(settings)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} can't be read ({error}); --workdir must be the folder of a run") from error
