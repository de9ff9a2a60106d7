"""What a configuration may hold: every value is checked before any work starts.

The names a setting may take are handed in by the room that knows them (`build.py`).
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from care_jax.errors import printable
from care_jax.experiment import extensions
from care_jax.experiment.settings import (
    ADDED,
    COLORS,
    MAX_COUNT,
    ONLY_IMAGES,
    SEED,
    STOOD_FOR_NONE,
    ConfigError,
    add_declared,
    of_clouds,
    optional,
    rules,
    sections,
)
from care_jax.rules import Rule


class UnreadableConfigError(ConfigError):
    """A config.json that is not there, or damaged."""


_SHOWN = 100  # characters of a value in a message


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
    required = _without_value(config)
    if required:
        raise ConfigError(f"config.{required} has no value; give it one in the configuration file")
    clouds = of_clouds(config)
    found, known, without = leaves(config), rules(clouds), optional()
    _check_kind(config, found, clouds)
    parts = sections(known)
    for name in found:
        if name in parts:
            raise ConfigError(f"config.{name} is {_shown(found[name])}; it is a section, see configs/base.py")
        if name not in known:
            raise ConfigError(f"config.{printable(name)} is not a setting; configs/base.py lists them all")
    for name in known:
        if name not in found:
            raise ConfigError(f"config.{name} is missing; start from configs/base.py, which has them all")
    for section in sorted(parts):
        _check_section(config, section)
    for name, (kind, rule) in known.items():
        _check(name, found[name], kind, rule, name in without)
    for name, allowed in choices.items():
        if name in known and found[name] not in allowed:
            raise ConfigError(f"config.{name} is {_shown(found[name])}; choose one of {', '.join(allowed)}")
    _check_groups(config)
    if clouds and config.augment.placement != "device":
        raise ConfigError(
            f"config.augment.placement is {config.augment.placement!r}, but clouds of points are drawn on the device "
            "alone; use 'device'"
        )
    if not clouds and config.data.stored_size is not None and config.augment.placement == "decode":
        raise ConfigError(
            "config.data.stored_size is for images kept on the device; with augment.placement=decode leave it "
            "without a value (None)"
        )


def _check_kind(config: ml_collections.ConfigDict, found: Mapping[str, Any], clouds: bool) -> None:
    """Whether the backbone embeds what the other settings are of."""
    others = rules(not clouds).keys() - rules(clouds).keys()
    if wrong := sorted(others & found.keys()):
        embedded, other = ("clouds of points", "images") if clouds else ("images", "clouds of points")
        start = "configs/proteins.py" if clouds else "a configuration of images, configs/digits.py for instance"
        raise ConfigError(
            f"config.model.backbone is {_shown(config.model.backbone)}, which embeds {embedded}, but config.{wrong[0]} "
            f"is a setting of {other}; choose another backbone, or start from {start}"
        )


def _check_groups(config: ml_collections.ConfigDict) -> None:
    """Batch and groups, as far as they have values."""
    batch_size, part, groups = config.train.batch_size, config.equivariance.batch_size, config.equivariance.num_groups
    inputs = "clouds" if of_clouds(config) else "images"
    named, images = ("train", batch_size) if part is None else ("equivariance", part)
    if None not in (images, batch_size) and images > batch_size:
        raise ConfigError(f"config.equivariance.batch_size is {images}, more than the batch of {batch_size}")
    if None in (images, groups):
        return
    if images % groups:
        raise ConfigError(
            f"config.equivariance.num_groups is {groups}, which does not divide the {images} {inputs} "
            f"of config.{named}.batch_size"
        )
    if config.equivariance.weight and images == groups:
        raise ConfigError(
            f"config.equivariance.num_groups is {groups}: groups of one {inputs[:-1]} have no pairs; use fewer groups"
        )


def _check_section(config: ml_collections.ConfigDict, section: str) -> None:
    """Refuses a plain dictionary, whose settings could not be read as attributes."""
    value: Any = config
    for name in section.split("."):
        value = value[name]
        if not isinstance(value, ml_collections.ConfigDict):
            raise ConfigError(f"config.{section} is a {type(value).__name__}; make it a ConfigDict")


def _without_value(config: ml_collections.ConfigDict, prefix: str = "") -> str:
    """The first setting that needs a value and has none; empty if there is none."""
    for key in config:
        try:
            value = config[key]
        except ml_collections.config_dict.RequiredValueError:
            return f"{prefix}{printable(str(key))}"
        if isinstance(value, ml_collections.ConfigDict):
            inside = _without_value(value, f"{prefix}{printable(str(key))}.")
            if inside:
                return inside
    return ""


def _check(name: str, value: Any, kind: Any, rule: Rule, is_optional: bool) -> None:
    if value is None and is_optional:
        return
    if isinstance(kind, tuple):
        element, length = kind
        if not isinstance(value, (tuple, list)) or (length is not None and len(value) != length):
            wanted = "strings" if element is str else f"{length} numbers" if length else "numbers"
            computed = ", or 'dataset' for those of the training images" if name in COLORS else ""
            raise ConfigError(f"config.{name} is {_shown(value)}; give a tuple of {wanted}{computed}")
        for part in value:
            _check(name, part, element, rule, False)
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
    if not rule.holds(value):
        unset = "; leave it without a value (None) for the default" if is_optional else ""
        raise ConfigError(f"config.{name} is {_shown(value)}; {rule.text}{unset}")
    if kind is int and rule is not SEED and value > MAX_COUNT:
        raise ConfigError(f"config.{name} is {_shown(value)}; it must be at most {MAX_COUNT}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def _shown(value: Any) -> str:
    """A value of whatever kind, as part of one line."""
    try:
        text = printable(repr(value))
    except Exception:  # repr is the value's own code; and Python writes out no int of more than 4,300 digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ, as `config.name: old -> new`; tuples and lists count as equal (JSON has no tuples)."""
    before, after = leaves(old), leaves(new)
    lines = []
    for name in sorted(before.keys() | after.keys()):
        left, right = (list(x[name]) if isinstance(x.get(name), tuple) else x.get(name) for x in (before, after))
        # A setting that is not there is none that is there without a value.
        if left != right or (name in before) != (name in after):
            shown = (repr(value) if name in x else "absent" for value, x in ((left, before), (right, after)))
            lines.append(printable(f"config.{name}: {' -> '.join(shown)}"))
    return lines


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """The configuration that the run in `workdir` was started with.

    Raises:
      UnreadableConfigError: there is none, or it can't be read.
      ConfigError: a module that it names can't be imported, or brings a setting that there is already.
    """
    path = workdir / "config.json"
    try:
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
        return from_plain(settings)
    except ConfigError:
        raise  # of what it asks for: the file is whole
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableConfigError(f"{path} can't be read ({error}); --workdir must be the folder of a run") from error


def from_plain(settings: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The configuration that was written down as JSON, by whatever version.

    What runs did before a setting was there is in `ADDED`; a setting of a method or a term that did not exist then has
    what configs/base.py gives it: mostly, no value. Before that, every setting had a value, and 0 (or an empty string)
    was written for "the default" in those of `STOOD_FOR_NONE`. Now one of them at least has none, as no method takes
    all settings of `loss`. And the heads of `essl` and `augself` were as wide as the projection head.
    """
    config = ml_collections.ConfigDict(_with_tuples(settings))
    of_others = ONLY_IMAGES if of_clouds(config) else ()
    for name in sorted(ADDED.keys() - leaves(config).keys() - set(of_others)):
        *path, key = name.split(".")
        section: Any = config
        for part in path:
            if isinstance(section, ml_collections.ConfigDict):
                if part not in section:
                    section[part] = ml_collections.ConfigDict()
                section = section[part]
        if isinstance(section, ml_collections.ConfigDict):  # where it is none, the check of all settings says so
            section[key] = ADDED[name]
    extensions.load(config)  # which know settings of their own
    found = leaves(config)
    if "equivariance.hidden_size" not in found and (width := _width_of_heads_before(found)):
        config.equivariance.hidden_size = width
    begun_before = all(found.get(name) is not None for name in STOOD_FOR_NONE)
    for name, (kind, _) in rules().items():
        stood_for_none = begun_before and name in STOOD_FOR_NONE and found[name] == STOOD_FOR_NONE[name]
        if name in found and (found[name] is None or stood_for_none):
            section, _, key = name.rpartition(".")
            values = config[section] if section else config
            with values.ignore_type():
                values[key] = placeholder(tuple if isinstance(kind, tuple) else kind)
    add_declared(config)
    return config


def _width_of_heads_before(found: Mapping[str, Any]) -> int:
    """Of a run begun before `equivariance.hidden_size`, whose term has it now; 0 where nothing had that width."""
    sizes = found.get("model.head_hidden_sizes")
    if found.get("equivariance.term") not in ("essl", "augself") or not found.get("equivariance.weight"):
        return 0
    return sizes[0] if isinstance(sizes, tuple) and sizes and isinstance(sizes[0], int) else 0


def _with_tuples(value: Any) -> Any:
    """Lists, which JSON has for tuples, made tuples again: no flag could change a list."""
    if isinstance(value, Mapping):
        return {name: _with_tuples(inside) for name, inside in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
