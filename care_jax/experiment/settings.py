"""What a setting may hold: its type and its range, and which settings may be left without a value."""

from typing import Any

# A setting's type, and what it must satisfy: in words, and the test.
Rule = tuple[type | tuple[type, int | None], tuple[str, Any]]

# What an int32 holds, as counts do on a device; and what a JAX seed may be.
MAX_COUNT, _MAX_SEED = 2**31 - 1, 2**63 - 1
_MAX_EPOCHS = 1e6  # far from where their number of steps would overflow, and beyond every run


def _at_least(low: float) -> tuple[str, Any]:
    return f"must be at least {low:g}", lambda value: value >= low


_POSITIVE = ("must be above 0", lambda value: value > 0)
_SHARE = ("must be above 0 and below 1", lambda value: 0 < value < 1)
_FRACTION = ("must be above 0 and at most 1", lambda value: 0 < value <= 1)
SEED = (f"must be at least 0 and at most {_MAX_SEED}", lambda value: 0 <= value <= _MAX_SEED)
_EPOCHS = (f"must be above 0 and at most {_MAX_EPOCHS:g}", lambda value: 0 < value <= _MAX_EPOCHS)
_EPOCHS_OR_NONE = (f"must be at least 0 and at most {_MAX_EPOCHS:g}", lambda value: 0 <= value <= _MAX_EPOCHS)
_ANY = ("", lambda value: True)
_NOT_EMPTY = ("must not be empty", lambda value: bool(value.strip()))

# Setting -> (its type, what it must satisfy and the test). Strings with a fixed choice are in `choices` of `validate`;
# the ranges of an augmentation are checked by AugmentSpec itself.
_SETTINGS: dict[str, Rule] = {
    "seed": (int, SEED),
    "data.name": (str, _ANY),
    "data.root": (str, _NOT_EMPTY),
    "data.image_size": (int, _at_least(8)),
    "data.stored_size": (int, _at_least(1)),
    "data.mean": ((float, 3), _ANY),
    "data.std": ((float, 3), _POSITIVE),
    "data.class_file": (str, _NOT_EMPTY),
    "data.download": (bool, _ANY),
    "data.test_fraction": (float, _SHARE),
    "augment.placement": (str, _ANY),
    "augment.num_threads": (int, _at_least(1)),
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
    "loss.queue_size": (int, _at_least(1)),
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
    "equivariance.batch_size": (int, _at_least(1)),
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
    "evaluate.monitor": ((str, None), _NOT_EMPTY),
    "evaluate.seed": (int, SEED),
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
RULES: dict[str, Rule] = _SETTINGS | {
    f"augment.{branch}.{name}": (kind, _ANY)
    for branch in ("invariance", "equivariance")
    for name, kind in _BRANCH_SETTINGS.items()
}
SECTIONS = {name.rpartition(".")[0] for name in RULES} - {""}

# Settings that may have no value, None, and then mean what configs/base.py says beside them: 0 is 0 everywhere. In
# runs begun before, 0 and the empty string stood for that.
OPTIONAL = {
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
ADDED: dict[str, Any] = {"evaluate.monitor": ("knn",)}
