"""What a setting may hold: its type and its range, and which settings may be left without a value."""

from collections.abc import Iterable
from typing import Any

import ml_collections
from ml_collections.config_dict import RequiredValueError, placeholder

from care_jax import methods, models
from care_jax.augment import AugmentSpec, CloudSpec
from care_jax.augment.operations import settings_of_operations
from care_jax.errors import UserError
from care_jax.rules import ANY, POSITIVE, Rule, Setting, at_least


class ConfigError(UserError, ValueError):
    """A setting that can't be used: the message names it, its value, and what to do."""


Kind = type | tuple[type, int | None]

# What an int32 holds, as counts do on a device; and the 32 bits that JAX's keys take of a seed (of more, seeds that
# differ would train alike).
MAX_COUNT, _MAX_SEED = 2**31 - 1, 2**32 - 1
_MAX_EPOCHS = 1e6  # far from where their number of steps would overflow, and beyond every run

_BELOW_1 = Rule("it must be at least 0 and below 1", lambda value: 0 <= value < 1)
_INSIDE = Rule("it must be above 0 and below 1", lambda value: 0 < value < 1)
_FRACTION = Rule("it must be above 0 and at most 1", lambda value: 0 < value <= 1)
SEED = Rule(f"it must be at least 0 and at most {_MAX_SEED}", lambda value: 0 <= value <= _MAX_SEED)
_EPOCHS = Rule(f"it must be above 0 and at most {_MAX_EPOCHS:g}", lambda value: 0 < value <= _MAX_EPOCHS)
_EPOCHS_OR_NONE = Rule(f"it must be at least 0 and at most {_MAX_EPOCHS:g}", lambda value: 0 <= value <= _MAX_EPOCHS)
_NOT_EMPTY = Rule("it must not be empty", lambda value: bool(value.strip()))

# Setting -> its type and its rule. Strings with a fixed choice are in `choices` of `validate`;
# the ranges of an augmentation are checked by AugmentSpec itself.
_SETTINGS: dict[str, tuple[Kind, Rule]] = {
    "seed": (int, SEED),
    "extensions": ((str, None), _NOT_EMPTY),
    "data.name": (str, ANY),
    "data.root": (str, _NOT_EMPTY),
    "data.image_size": (int, at_least(8)),
    "data.stored_size": (int, at_least(1)),
    "data.mean": ((float, 3), ANY),
    "data.std": ((float, 3), POSITIVE),
    "data.class_file": (str, _NOT_EMPTY),
    "data.download": (bool, ANY),
    "data.test_fraction": (float, _INSIDE),
    "data.window_lengths": ((int, None), at_least(4)),
    "data.window_stride": (int, at_least(1)),
    "augment.placement": (str, ANY),
    "augment.num_threads": (int, at_least(1)),
    "model.backbone": (str, ANY),
    "model.stem": (str, ANY),
    "model.width": (int, at_least(1)),
    "model.pooling": (str, ANY),
    "model.dtype": (str, ANY),
    "model.head_hidden_sizes": ((int, None), at_least(1)),
    "model.head_size": (int, at_least(2)),
    "model.head_batch_norm": (bool, ANY),
    "model.head_output_batch_norm": (bool, ANY),
    "model.remat": (bool, ANY),
    "model.init_from": (str, _NOT_EMPTY),
    "loss.method": (str, ANY),
    "equivariance.term": (str, ANY),
    "equivariance.weight": (float, at_least(0)),
    "equivariance.num_groups": (int, at_least(1)),
    "equivariance.draws": (str, ANY),
    "equivariance.batch_size": (int, at_least(1)),
    "optimizer.name": (str, ANY),
    "optimizer.learning_rate": (float, POSITIVE),
    "optimizer.momentum": (float, _BELOW_1),
    "optimizer.weight_decay": (float, at_least(0)),
    "optimizer.decay": (str, ANY),
    "optimizer.schedule": (str, ANY),
    "optimizer.warmup_epochs": (float, _EPOCHS_OR_NONE),
    "optimizer.step_epochs": ((float, None), _EPOCHS),
    "optimizer.step_factor": (float, _FRACTION),
    "train.batch_size": (int, at_least(2)),
    "train.micro_batches": (int, at_least(1)),
    "train.steps_per_call": (int, at_least(1)),
    "train.epochs": (float, _EPOCHS),
    "train.num_steps": (int, at_least(0)),
    "train.log_every": (int, at_least(1)),
    "train.evaluate_every_epochs": (float, _EPOCHS_OR_NONE),
    "train.checkpoint_every_epochs": (float, _EPOCHS_OR_NONE),
    "train.keep_last": (int, at_least(1)),
    "train.trace_steps": (int, at_least(0)),
    "train.loggers": ((str, None), _NOT_EMPTY),
    "evaluate.monitor": ((str, None), _NOT_EMPTY),
    "evaluate.monitor_examples": (int, at_least(1)),
    "evaluate.seed": (int, SEED),
    "evaluate.batch_size": (int, at_least(1)),
    "evaluate.center_fraction": (float, _FRACTION),
    "evaluate.knn_k": (int, at_least(1)),
    "evaluate.knn_temperature": (float, POSITIVE),
    "evaluate.num_augmentations": (int, at_least(1)),
    "evaluate.probe.num_seeds": (int, at_least(1)),
    "evaluate.probe.epochs": (int, _EPOCHS),
    "evaluate.probe.batch_size": (int, at_least(1)),
    "evaluate.probe.optimizer": (str, ANY),
    "evaluate.probe.learning_rate": (float, POSITIVE),
    "evaluate.probe.momentum": (float, _BELOW_1),
    "evaluate.probe.weight_decay": (float, at_least(0)),
    "evaluate.probe.schedule": (str, ANY),
    "evaluate.probe.step_epochs": ((float, None), _EPOCHS),
    "evaluate.probe.step_factor": (float, _FRACTION),
    "evaluate.online_probe": (bool, ANY),
    "evaluate.label_fractions": ((float, None), _FRACTION),
    "evaluate.finetune.enabled": (bool, ANY),
    "evaluate.finetune.label_fractions": ((float, None), _FRACTION),
    "evaluate.finetune.num_seeds": (int, at_least(1)),
    "evaluate.finetune.epochs": (int, _EPOCHS),
    "evaluate.finetune.batch_size": (int, at_least(2)),
    "evaluate.finetune.optimizer": (str, ANY),
    "evaluate.finetune.learning_rate": (float, POSITIVE),
    "evaluate.finetune.momentum": (float, _BELOW_1),
    "evaluate.finetune.weight_decay": (float, at_least(0)),
    "evaluate.finetune.schedule": (str, ANY),
    "evaluate.finetune.augmentation": (str, ANY),
}
BRANCHES = ("invariance", "equivariance")

# Settings that only a configuration of images has, and only one of clouds of points; and so the ranges of the branches.
ONLY_IMAGES = (
    *("data.image_size", "data.stored_size", "data.mean", "data.std", "data.class_file", "data.download"),
    *("augment.num_threads", "model.stem", "evaluate.center_fraction"),
    *("evaluate.finetune.augmentation",),
)
ONLY_CLOUDS = ("data.window_lengths", "data.window_stride", "model.pooling")

# Settings that may have no value, None, and then mean what configs/base.py says beside them: 0 is 0 everywhere.
_OPTIONAL = {
    "data.root",
    "data.stored_size",
    "data.class_file",
    "augment.num_threads",
    "model.init_from",
    "equivariance.batch_size",
    "train.num_steps",
    "evaluate.monitor_examples",
}

# Settings that may have no value in any configuration, and are then chosen when the run begins: choice.py says how.
# COLORS are computed from the images.
COLORS = ("data.mean", "data.std")
CHOSEN = (*COLORS, "train.batch_size", "train.epochs", "equivariance.num_groups", "model.width")

# In runs begun before, every setting had a value: these stood for none. No setting is added here.
STOOD_FOR_NONE = {
    "data.root": "",
    "data.stored_size": 0,
    "data.class_file": "",
    "augment.num_threads": 0,
    "loss.momentum": 0,
    "loss.queue_size": 0,
    "loss.off_diagonal_weight": 0,
    "loss.invariance_weight": 0,
    "loss.variance_weight": 0,
    "loss.covariance_weight": 0,
    "equivariance.batch_size": 0,
    "train.num_steps": 0,
}

# Settings that came later -> what runs begun before them did.
ADDED: dict[str, Any] = {
    "extensions": (),
    "train.loggers": ("tensorboard",),
    "train.trace_steps": 0,
    "evaluate.monitor": ("knn",),
    "evaluate.monitor_examples": None,
    "model.init_from": None,
    "evaluate.online_probe": False,
    "evaluate.label_fractions": (),
    "evaluate.finetune.enabled": False,
    "evaluate.finetune.label_fractions": (1.0,),
    "evaluate.finetune.num_seeds": 3,
    "evaluate.finetune.epochs": 60,
    "evaluate.finetune.batch_size": 256,
    "evaluate.finetune.optimizer": "sgd",
    "evaluate.finetune.learning_rate": 0.05,
    "evaluate.finetune.momentum": 0.9,
    "evaluate.finetune.weight_decay": 0.0,
    "evaluate.finetune.schedule": "cosine",
    "evaluate.finetune.augmentation": "crop_flip",
}


def declared() -> dict[str, Setting]:
    """The settings that methods and terms declare, by their dotted names; of those that are registered now."""
    found = {"loss": methods.settings_of(methods.METHODS), "equivariance": methods.settings_of(methods.TERMS)}
    return {f"{section}.{name}": one for section, settings in found.items() for name, one in settings.items()}


def of_clouds(config: ml_collections.ConfigDict) -> bool:
    """Whether a configuration is of clouds of points: by its backbone, which embeds one or the other."""
    try:
        backbone = config.model.backbone
    except (AttributeError, RequiredValueError):  # which is refused where settings are checked
        return False
    return isinstance(backbone, str) and backbone in models.CLOUD_BACKBONES


def add_declared(config: ml_collections.ConfigDict) -> None:
    """Adds the settings of methods, terms and operations, those that leave it off, where the configuration lacks them.

    Raises:
      ConfigError: one of them is a setting already.
    """
    rules()  # which refuses what is there twice
    brought = {name: one.default if one.stated else placeholder(one.kind) for name, one in declared().items()}
    for branch in () if of_clouds(config) else BRANCHES:
        brought |= {f"augment.{branch}.{name}": value for name, value in settings_of_operations().items()}
    with config.unlocked():
        for name, value in brought.items():
            *path, key = name.split(".")
            section: Any = config
            for part in path:
                section = section.get(part) if isinstance(section, ml_collections.ConfigDict) else None
            if isinstance(section, ml_collections.ConfigDict) and key not in section:
                section[key] = value


def rules(clouds: bool | None = None) -> dict[str, tuple[Kind, Rule]]:
    """Every setting that there is -> its type and its rule: those of methods, terms and operations too.

    Args:
      clouds: of configurations of clouds alone, or of images alone; None: of both.

    Raises:
      ConfigError: a method, a term or an operation brings a setting that there is already.
    """
    own = declared()
    for name in own.keys() & _SETTINGS.keys():
        raise ConfigError(f"a method or term declares {name!r}, which is a setting already: use another name")
    kinds: dict[str, Kind] = {}
    try:
        for kind, settings in ((False, AugmentSpec.settings()), (True, CloudSpec.settings())):
            if clouds in (None, kind):
                kinds |= {name: _kind(value) for name, value in settings.items()}
    except ValueError as error:
        raise ConfigError(str(error)) from error
    others: tuple[str, ...] = () if clouds is None else ONLY_IMAGES if clouds else ONLY_CLOUDS
    known = {name: rule for name, rule in _SETTINGS.items() if name not in others}
    of_branches = {f"augment.{branch}.{name}": (kind, ANY) for branch in BRANCHES for name, kind in kinds.items()}
    return known | of_branches | {name: (one.kind, one.rule) for name, one in own.items()}


def only_of(name: str) -> str:
    """ "images" or "clouds of points" of a setting that only configurations of these have; empty of any other name."""
    of_images, clouds = name in rules(clouds=False), name in rules(clouds=True)
    return "" if of_images == clouds else "images" if of_images else "clouds of points"


def sections(names: Iterable[str]) -> set[str]:
    """What the settings of these names lie in."""
    return {name.rpartition(".")[0] for name in names} - {""}


def optional() -> set[str]:
    """The settings that may have no value: None."""
    return _OPTIONAL | {*CHOSEN} | {name for name, one in declared().items() if not one.stated}


def _kind(value: Any) -> Kind:
    return (type(value[0]), len(value)) if isinstance(value, tuple) else type(value)
