"""What a method needs beside its name to be compared: settings of its paper, cut to the images and the head at hand.

What the command line gives stays, and what the configuration has instead of a default; but MoCo's temperature where the
configuration has SimCLR's, Barlow Twins' outputs, and the tenth of the labels, which a column of the table is named by.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import ml_collections

from care_jax.configs import base

# CARE's weight on a base, over that on SimCLR, which is the configuration's: losses differ in scale. From few runs.
CARE_SCALE = {"simclr": 1.0, "moco": 1.0, "byol": 10.0, "barlow_twins": 10.0, "vicreg": 100.0}
# A rival -> its base, and its weight in its paper (CIFAR10 or STL10).
RIVALS = {"equimod": ("simclr", 1.0), "essl": ("simclr", 0.4), "augself": ("simclr", 1.0), "sie": ("none", 1.0)}

_KEYS = 65_536  # of MoCo's queue, in its paper
_SIMCLR_TEMPERATURE, _MOCO_TEMPERATURE = 0.5, 0.1  # CARE's paper, CIFAR10 to STL10; other temperatures are a choice
_NARROW = 512  # a projection head below the paper's is of a small encoder
_UPDATES = 10  # in an epoch of fine-tuning; with fewer the batch is cut


def of_base(method: str, config: ml_collections.ConfigDict, images: int, given: Collection[str] = ()) -> dict[str, Any]:
    """Dotted name -> value, what a base objective asks for.

    MoCo's queue has no more keys than there are images, and is a power of two; its temperature is that of the paper's
    MoCo-v2. Barlow Twins' outputs are normalised, as its paper does it.

    Args:
      method: `loss.method`.
      config: of all rows.
      images: that are trained on.
      given: the settings that the command line gave.
    """
    found: dict[str, Any] = {}
    if method == "moco":
        if config.loss.temperature == _SIMCLR_TEMPERATURE:
            found["loss.temperature"] = _MOCO_TEMPERATURE
        if config.loss.queue_size is None:
            found["loss.queue_size"] = min(_KEYS, 2 ** (images.bit_length() - 1))
    elif method == "barlow_twins":
        found["model.head_output_batch_norm"] = True
    return {name: value for name, value in found.items() if name not in given}


def of_rival(rival: str, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The same of a term: heads as wide as a narrow encoder's projection head, else as their papers have them."""
    widths = config.model.head_hidden_sizes
    if rival in ("essl", "augself") and config.equivariance.hidden_size is None and widths and widths[-1] < _NARROW:
        return {"equivariance.hidden_size": widths[-1]}
    return {}


def fine_tuning(config: ml_collections.ConfigDict, images: int, given: Collection[str] = ()) -> dict[str, Any]:
    """On a tenth of the labels: 30 epochs, SimCLR's (arXiv:2002.05709, B.5); batches and epochs of few labels are cut.

    Args:
      config: of all rows.
      images: labelled ones to train on.
      given: the settings that the command line gave.
    """
    settings = config.evaluate.finetune
    usual = base.get_config().evaluate.finetune
    found: dict[str, Any] = {}
    few = images / 10 < _UPDATES * settings.batch_size
    if few and settings.batch_size == usual.batch_size:
        found["evaluate.finetune.batch_size"] = 32
    if settings.epochs == usual.epochs:
        found["evaluate.finetune.epochs"] = 20 if few else 30
    found = {name: value for name, value in found.items() if name not in given}
    return {"evaluate.finetune.enabled": True, "evaluate.finetune.label_fractions": (0.1,), **found}


def told(
    config: ml_collections.ConfigDict, images: int, given: Collection[str], compared: Iterable[Mapping[str, Any]]
) -> str:
    """A line a method that has settings of its own, for below a table.

    Args:
      config, images, given: as of `of_base`.
      compared: the settings of each row.
    """
    rows = [*compared]
    found = {method: of_base(method, config, images, given) for method in CARE_SCALE}
    found |= {rival: of_rival(rival, config) for rival in RIVALS}
    there = {row.get("loss.method") for row in rows} | {row.get("equivariance.term") for row in rows}
    return "\n".join(
        f"* {name} has settings of its own: {', '.join(f'{setting}={value}' for setting, value in settings.items())}"
        for name, settings in found.items()
        if settings and name in there
    )
