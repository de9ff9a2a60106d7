"""The grid of a sweep: `--set NAME=VALUE,VALUE` by the settings' types, their combinations, and folders for them."""

import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from care_jax.command_line import UsageError
from care_jax.experiment.settings import Kind, of_clouds, only_of, rules, sections
from care_jax.sweep.runs import Run
from care_jax.sweep.table import configured

Grid = Mapping[str, Sequence[Any]]  # a setting -> its values
_OPENED, _CLOSED = "([", ")]"
_UNSAFE = re.compile(r"[^\w.=,+-]", re.ASCII)  # in a folder's name, somewhere
_LONGEST = 120  # characters of a folder's name; file systems take 255 bytes
_WANTED = {int: "a whole number", float: "a number", bool: "True or False"}


def parse(given: Iterable[str]) -> dict[str, list[Any]]:
    """The grid that the values of `--set` make.

    Args:
      given: each `name=value,value`; tuples in brackets, strings with commas in quotes, None for no value.

    Raises:
      UsageError: no such setting, a value that is none of its type, a setting or a value that is there twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        name = name.strip().removeprefix("config.")
        kind = _kind(name, text)
        if not equals or not values.strip():
            raise UsageError(f"--set {text}: give values, --set {name}=1,2 for instance")
        if name in grid:
            raise UsageError(f"--set {text}: {name} is set twice; give all its values at once")
        grid[name] = [_value(part, kind, f"--set {text}") for part in _split(values, f"--set {text}")]
        for i, value in enumerate(grid[name]):
            if value in grid[name][:i]:
                raise UsageError(f"--set {text}: {value} is there twice")
    return grid


def _kind(name: str, text: str) -> Kind:
    known = rules()
    if name == "seed":
        raise UsageError(f"--set {text}: training seeds are given by --seeds, from --config.seed on")
    if name in sections(known):
        inside = [other for other in known if other.startswith(f"{name}.")]
        raise UsageError(f"--set {text}: {name} is a section; give one of its settings, {inside[0]} for instance")
    if name not in known:
        near = difflib.get_close_matches(name, known, 1) or [one for one in known if one.endswith(f".{name}")][:1]
        hint = f"did you mean {near[0]!r}?" if near else "configs/base.py lists them all"
        raise UsageError(f"--set {text}: {name!r} is not a setting; {hint}")
    return known[name][0]


def _split(text: str, told: str) -> list[str]:
    """At the commas that are in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        else:
            depth += (char in _OPENED) - (char in _CLOSED)
        if char == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += char
    if depth or quote:
        raise UsageError(f"{told}: {'a quote' if quote else 'a bracket'} has no counterpart")
    if not all(part.strip() for part in parts):
        raise UsageError(f"{told}: a value is empty; an empty string is '' in quotes")
    return [part.strip() for part in parts]


def _value(text: str, kind: Kind, told: str) -> Any:
    if text == "None":
        return None
    if isinstance(kind, tuple):
        if text[0] not in _OPENED or text[-1] not in _CLOSED:
            raise UsageError(f"{told}: {text} is no tuple; give tuples in brackets, (1,2),(3,4) for instance")
        inside = text[1:-1].strip().removesuffix(",")
        return tuple(_value(part, kind[0], told) for part in _split(inside, told)) if inside else ()
    if kind is str:
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if quoted else text
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{told}: {text} is not {_WANTED.get(kind, f'a {kind.__name__}')}") from error


def runs(config: ml_collections.ConfigDict, grid: Grid, workdir: Path, seeds: int) -> list[list[Run]]:
    """The runs of every combination of values, the last setting changing fastest; of each, one a seed.

    Args:
      config: of all runs; its seed is the first.
      grid: setting -> values.
      workdir: folder of the sweep.
      seeds: how many.

    Raises:
      UsageError: two runs would have one folder; a setting of images for a configuration of clouds, or vice versa.
    """
    for setting in grid:
        _check_there(config, setting)
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    found = []
    for settings in combinations:
        folder = workdir / name(settings) if settings else workdir
        of_seeds = []
        for seed in range(config.seed, config.seed + seeds):
            of_seeds.append(Run(configured(config, settings, seed), folder / f"seed={seed}"))
        found.append(of_seeds)
    return found


def _check_there(config: ml_collections.ConfigDict, setting: str) -> None:
    section, _, key = setting.rpartition(".")
    if key in (config[section] if section else config):
        return
    kind = only_of(setting)
    here = "clouds of points" if of_clouds(config) else "images"
    why = f"it is one of {kind}, and the configuration is of {here}" if kind else "add it there"
    raise UsageError(f"--set {setting}: the configuration has no such setting; {why}")


def name(settings: Mapping[str, Any]) -> str:
    """A folder's name for a combination: any file system takes it, and no other combination has it.

    >>> name({"equivariance.weight": 0.03, "augment.invariance.crop_scale": (0.2, 1.0), "loss.method": "simclr"})
    'equivariance.weight=0.03,augment.invariance.crop_scale=0.2+1,loss.method=simclr'
    """
    plain = ",".join(f"{setting}={_text(value)}" for setting, value in settings.items())
    exact = json.dumps(list(settings.items()))
    safe = _UNSAFE.sub("_", plain)
    parts = [part for value in settings.values() for part in (value if isinstance(value, tuple) else [value])]
    # File systems may take "A" for "a"; and "+" is between the parts of a tuple.
    is_told = all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts if isinstance(part, str))
    if safe == plain and is_told and len(safe) <= _LONGEST:
        return safe
    return f"{safe[:_LONGEST]}~{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        short = f"{value:g}".replace("e+", "e")
        return short if float(short) == value else repr(value).replace("e+", "e")
    if isinstance(value, tuple):
        return "+".join(map(_text, value)) or "empty"
    return str(value)
