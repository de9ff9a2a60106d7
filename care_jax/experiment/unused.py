"""Settings that have no effect, because another one has switched off what they are of; or less than they seem to."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import ml_collections

from care_jax import methods
from care_jax.augment import AugmentSpec, CloudSpec, Spec
from care_jax.data import DATA_SETS
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.inputs import augment_spec
from care_jax.experiment.settings import BRANCHES, ConfigError
from care_jax.methods import equimod

# A setting -> of the configuration, what leaves it without effect, in words; nothing where it has one.
_Reason = Callable[[ml_collections.ConfigDict], str]


def _off(name: str, *values: Any, sense: bool = True) -> _Reason:
    """Without effect where the setting `name` has one of the values, or with sense=False none of them."""

    def reason(config: ml_collections.ConfigDict) -> str:
        value = _value(config, name)
        return f"config.{name} is {_shown(value)}" if (value in values) == sense else ""

    return reason


def _of_branch(branch: str) -> dict[str, _Reason]:
    of = f"augment.{branch}."
    switches: dict[str, tuple[_Reason, tuple[str, ...]]] = {
        "crop": (_off(f"{of}crop", "center"), ("crop_scale", "crop_ratio")),
        "center": (_off(f"{of}crop", "center", sense=False), ("center_fraction",)),
        "jitter": (_off(f"{of}jitter_probability", 0), ("brightness", "contrast", "saturation", "hue")),
        "blur": (_off(f"{of}blur_probability", 0), ("blur_kernel_size", "blur_sigma")),
        "solarize": (_off(f"{of}solarize_probability", 0), ("solarize_threshold",)),
    }
    return {f"{of}{name}": reason for reason, names in switches.values() for name in names}


def _of_optimizer(section: str, optimizer: str) -> dict[str, _Reason]:
    return {
        f"{section}.momentum": _off(f"{section}.{optimizer}", "sgd", "lars", sense=False),
        f"{section}.step_epochs": _off(f"{section}.schedule", "step", sense=False),
        f"{section}.step_factor": _off(f"{section}.schedule", "step", sense=False),
    }


def _no_groups(config: ml_collections.ConfigDict) -> str:
    if config.train.batch_size is None:  # which is chosen to go with them
        return ""
    term = methods.TERMS.get(config.equivariance.term)
    none = "" if term is None or "equivariance" in term.needs else f"config.equivariance.term is {term.name}"
    return _off("equivariance.weight", 0)(config) or none


def _steps(config: ml_collections.ConfigDict) -> str:
    steps = config.train.num_steps
    return "" if steps is None else f"config.train.num_steps is {steps}, which goes first; =None makes the epochs count"


def _stored(config: ml_collections.ConfigDict) -> str:
    return _off("augment.placement", "device", sense=False)(config) if config.data.name == "image_folder" else ""


_REASONS: dict[str, _Reason] = {
    "train.epochs": _steps,
    **_of_optimizer("optimizer", "name"),
    "optimizer.decay": _off("optimizer.weight_decay", 0),
    **_of_optimizer("evaluate.probe", "optimizer"),
    "data.stored_size": _stored,
    "augment.num_threads": _off("augment.placement", "device"),
    **{f"equivariance.{name}": _no_groups for name in ("num_groups", "draws", "batch_size")},
    **{name: reason for branch in BRANCHES for name, reason in _of_branch(branch).items()},
}


def unused(config: ml_collections.ConfigDict, given: Iterable[str]) -> list[str]:
    """A line a setting that was given and has no effect: what it is, and why.

    Args:
      config: the whole.
      given: the names of the settings that the command line gave, train.epochs for instance.
    """
    lines = []
    for name in given:
        reason = _REASONS.get(name) or _of_section(config, name)
        if reason and _value(config, name) is not None and (why := reason(config)):
            lines.append(f"config.{name} is given, and has no effect: {why}")
    return lines


def _of_section(config: ml_collections.ConfigDict, name: str) -> _Reason | None:
    """Of a setting that is switched off with all of its section, or that the chosen method does not have."""
    section, _, key = name.rpartition(".")
    if section == "evaluate.finetune" and key != "enabled":
        return _off("evaluate.finetune.enabled", False)
    if section == "equivariance" and key != "weight":
        return _off("equivariance.weight", 0)
    method = methods.METHODS.get(config.loss.method)
    if section == "loss" and key != "method" and method and key not in method.settings:
        return lambda _: f"config.loss.method is {method.name}, which has none"
    return None


def report(config: ml_collections.ConfigDict, given: Sequence[str], tell: Callable[[str], None]) -> None:
    """Tells what was given in vain, of a configuration that can be run: mistakes are for those who run it to say.

    Args:
      config, given: as of `unused`.
      tell: a line.

    Raises:
      ConfigError: as `check_data`; or the configuration can't be run.
    """
    check_data(config, given)
    if lines := unused(config, given):
        build.check(config, sharding.make_mesh(jax.devices()[:1]))
        for line in lines:
            tell(line)


def of_schedules(config: ml_collections.ConfigDict, steps_per_epoch: int, num_steps: int) -> list[str]:
    """A line a schedule that does less than its settings say, in a run of this length."""
    optimizer, probe, lines = config.optimizer, config.evaluate.probe, []
    warmup = round(optimizer.warmup_epochs * steps_per_epoch)
    passed = [epoch for epoch in optimizer.step_epochs if 0 < round(epoch * steps_per_epoch) < warmup]
    if optimizer.schedule == "step" and passed:
        lines.append(
            f"optimizer.step_epochs has {', '.join(f'{epoch:g}' for epoch in passed)}, within the "
            f"{optimizer.warmup_epochs:g} epochs of warm-up, which rises to the full rate all the same: the step is "
            "made after it"
        )
    if optimizer.schedule == "step":
        steps = [round(epoch * steps_per_epoch) for epoch in optimizer.step_epochs]
        if not any(0 < step < num_steps for step in steps):
            lines.append(
                f"optimizer.schedule is step, but none of optimizer.step_epochs={tuple(optimizer.step_epochs)} lies "
                f"within the {num_steps / steps_per_epoch:.3g} epochs: the learning rate stays as it is"
            )
        if 0 in steps:
            lines.append("one of optimizer.step_epochs rounds to step 0: the whole run has the rate after it")
    if optimizer.warmup_epochs and not round(optimizer.warmup_epochs * steps_per_epoch):
        lines.append(f"optimizer.warmup_epochs={optimizer.warmup_epochs:g} rounds to no step: there is no warm-up")
    if probe.schedule == "step" and all(epoch >= probe.epochs for epoch in probe.step_epochs):
        lines.append(
            f"evaluate.probe.schedule is step, but none of evaluate.probe.step_epochs={tuple(probe.step_epochs)} lies "
            f"within its {probe.epochs} epochs: its learning rate stays as it is"
        )
    return lines


def of_views(config: ml_collections.ConfigDict, of_files: bool) -> list[str]:
    """A line for what the views of a run are not, though its settings could be read so.

    Args:
      config: of the run, filled in.
      of_files: whether its images are decoded when a batch needs them.
    """
    lines = []
    weight, term, placement = config.equivariance.weight, config.equivariance.term, config.augment.placement
    specs = {branch: augment_spec(config, branch) for branch in BRANCHES}
    alone = config.loss.method == "none" and term == "care"  # no views of the other branch
    used = {"invariance": not alone, "equivariance": bool(weight) and not _no_groups(config)}
    for branch in (branch for branch in BRANCHES if used[branch]):
        spec = specs[branch]
        if not _draws(spec):
            lines.append(
                f"augment.{branch} draws nothing: its two views of an image are equal, and a loss that compares them "
                "learns nothing of it"
            )
        if of_files and isinstance(spec, AugmentSpec) and not spec.antialias:
            lines.append(
                f"augment.{branch}.antialias is False, but files that are decoded for a batch (augment.placement="
                f"{placement}) are made smaller with antialiasing"
            )
    spec = specs["equivariance"]
    cut = used["equivariance"] and isinstance(spec, AugmentSpec) and spec.crop == "random_resized"
    if cut and of_files:
        lines.append(
            f"the equivariance views are cut from the central square, brought to {config.data.image_size} x "
            f"{config.data.image_size} pixels before; those of the other branch from the whole image, and are sharper"
        )
    if weight and term in ("equimod", "sie") and (unseen := equimod.unseen(specs["invariance"])):
        seen = "rotations and sizes" if isinstance(specs["invariance"], CloudSpec) else "crops, flips and colours"
        lines.append(
            f"{term} predicts what {seen} do; of {', '.join(unseen)}, which augment.invariance draws "
            "too, its predictor is told nothing"
        )
    if weight and term == "care" and config.equivariance.on == "head" and not config.model.head_batch_norm:
        lines.append(
            "equivariance.on is head, and without model.head_batch_norm nothing keeps that head from making all of its "
            "outputs equal, which is what the term asks for"
        )
    return lines


def _draws(spec: Spec) -> bool:
    if isinstance(spec, CloudSpec):
        return bool(spec.rotation or spec.scaling or spec.jitter or spec.dropping)
    jittered = spec.jitter_probability and (spec.brightness or spec.contrast or spec.saturation or spec.hue)
    others = spec.flip_probability, spec.grayscale_probability, spec.blur_probability, spec.solarize_probability
    moved = spec.crop == "random_resized" or spec.rotation_degrees or spec.translation
    return bool(jittered or any(others) or moved or spec.operations)


def check_data(config: ml_collections.ConfigDict, given: Iterable[str]) -> None:
    """That the data set has all of its settings that were given: without, a run would be of other data than meant.

    Args:
      config, given: as of `unused`.

    Raises:
      ConfigError: it lacks one.
    """
    for name in set(given) & {"data.root", "data.class_file", "data.download", "data.test_fraction"}:
        having = [other for other, (_, accepted) in DATA_SETS.items() if name.removeprefix("data.") in accepted]
        known = config.data.name in DATA_SETS and config.data.name not in having
        if known and _value(config, name) not in (None, False):
            raise ConfigError(f"config.{name} is given, and {config.data.name} has none; {', '.join(having)} have it")


def _value(config: ml_collections.ConfigDict, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, ml_collections.ConfigDict) else None
    return value


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"
