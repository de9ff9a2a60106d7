"""Modules of one's own that a configuration names: they register data sets, operations, backbones, methods, terms."""

import hashlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from care_jax.experiment.settings import ConfigError, add_declared


def load(config: ml_collections.ConfigDict) -> None:
    """Imports what the setting `extensions` names, and adds the settings that it brings and the configuration lacks.

    What is imported already stays as it is.

    Raises:
      ConfigError: a module is not there, fails, or brings a setting that there is already.
    """
    for name in _names(config):
        try:
            importlib.import_module(name)
        except Exception as error:  # the module is code, and can raise anything
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"config.extensions names {name!r}, which can't be imported ({reason}); it is a module on Python's "
                "path: start in the folder that it lies in, or install it"
            ) from error
    if _names(config):
        add_declared(config)


def versions(config: Mapping[str, Any]) -> dict[str, str]:
    """By the names of the extensions, digests of the files they were imported from, to tell edited ones apart."""
    found = {}
    for name in _names(config):
        file = getattr(sys.modules.get(name), "__file__", None)
        content = Path(file).read_bytes() if file else b""
        found[f"extension {name}"] = hashlib.sha256(content).hexdigest()[:12]
    return found


def edited(config: Mapping[str, Any], saved: Mapping[str, str] | None) -> list[str]:
    """A line an extension whose file is another than when a checkpoint was saved, with what `versions` gave then."""
    return [
        f"{name} has been edited since the checkpoint was saved: what it defines may not be what was trained"
        for name, digest in versions(config).items()
        if (saved or {}).get(name, digest) != digest
    ]


def _names(config: Mapping[str, Any]) -> list[str]:
    """None where the setting has no such value, which is refused where settings are checked."""
    try:
        names = config["extensions"]
    except (KeyError, TypeError, ml_collections.config_dict.RequiredValueError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, (tuple, list)) else []
