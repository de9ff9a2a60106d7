"""What may differ between a run and what is asked of it later: to go on, to be evaluated again, to stand in a table."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_collections

from care_jax.experiment import choice
from care_jax.experiment.choice import filled, without_value
from care_jax.experiment.config import ConfigError, differences, leaves
from care_jax.methods import METHODS

# Settings that move neither a run's parameters nor what its numbers mean.
_FREE = (
    "config.train.log_every",
    "config.train.keep_last",
    "config.train.loggers",
    "config.train.trace_steps",
    "config.augment.num_threads",
    "config.data.root",
    "config.data.download",
    "config.evaluate.batch_size",
    "config.evaluate.monitor",
    "config.evaluate.online_probe",
)
# With these a run goes on too: its images and labels are compared themselves, and more saves move no step.
_OF_THE_MACHINE = ("config.data.class_file", "config.train.checkpoint_every_epochs")
# So it does with these, to the same numbers but for their rounding.
_OF_ROUNDING = ("config.model.remat", "config.train.steps_per_call")
_LENGTHS = ("num_steps", "epochs")
_OF_EVALUATION = ("config.evaluate.", "config.data.root", "config.augment.num_threads")


def kept_choices(begun: ml_collections.ConfigDict, now: ml_collections.ConfigDict) -> dict[str, Any]:
    """What a run chose when it began, by dotted names, for settings that have no value now."""
    before = leaves(begun)
    return {name: before[name] for name in without_value(now) if before.get(name) is not None}


def cut_batches(config: ml_collections.ConfigDict, workdir: Path) -> list[int]:
    """What devices have to divide, as `choice.cut_batches`, with the batch that the run in `workdir` has chosen."""
    kept = 0
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):  # none, or one that is refused later
        kept = json.loads((workdir / "config.json").read_text())["train"]["batch_size"]
    return choice.cut_batches(config, kept if isinstance(kept, int) else 0)


def check_goes_on(begun: ml_collections.ConfigDict, now: ml_collections.ConfigDict, workdir: Path) -> None:
    """Whether the run in `workdir`, begun with one configuration, can go on with another.

    Beside what moves no number, or its rounding alone, its length may change: more of the steps (or epochs) that it was
    begun with, where no step before depends on how many there are.

    Raises:
      ConfigError: it can't, with the settings to blame.
    """
    now = filled(now, kept_choices(begun, now))
    changed = [line for line in changes(begun, now) if line.partition(":")[0] not in (*_OF_THE_MACHINE, *_OF_ROUNDING)]
    longer = [name for name in _LENGTHS if _is_raised(begun.train.get(name), now.train.get(name))]
    if len(longer) == 1:
        refused = _depends_on_length(now)
        extended = [line for line in changed if line.startswith(f"config.train.{longer[0]}:")]
        if refused and extended == changed:
            raise ConfigError(
                f"{workdir} holds a run that can't be made longer ({extended[0]}): {refused}; use another --workdir"
            )
        changed = [line for line in changed if line not in extended]
    if changed:
        raise ConfigError(
            f"{workdir} holds a run with other settings ({'; '.join(changed)}): "
            "use its settings to go on with it, or another --workdir"
        )


def rounded_otherwise(begun: ml_collections.ConfigDict, now: ml_collections.ConfigDict) -> list[str]:
    """The differences with which a run goes on to the same numbers but for their rounding."""
    now = filled(now, kept_choices(begun, now))
    return [line for line in changes(begun, now) if line.partition(":")[0] in _OF_ROUNDING]


def changes(begun: ml_collections.ConfigDict, now: ml_collections.ConfigDict) -> list[str]:
    """The differences that move a run's parameters, or what its numbers mean."""
    now = filled(now, kept_choices(begun, now))
    return [line for line in differences(begun.to_dict(), now.to_dict()) if line.partition(":")[0] not in _FREE]


def counts(name: str) -> bool:
    """Whether a setting, by its dotted name, moves a run's parameters, or what its numbers mean.

    >>> counts("train.batch_size"), counts("train.log_every")
    (True, False)
    """
    return f"config.{name}" not in _FREE


def changes_beyond_evaluation(begun: ml_collections.ConfigDict, now: ml_collections.ConfigDict) -> list[str]:
    """The differences that an evaluation of the run would not see: they are of its training."""
    return [line for line in differences(begun.to_dict(), now.to_dict()) if not line.startswith(_OF_EVALUATION)]


def _is_raised(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after > before


def _depends_on_length(config: ml_collections.ConfigDict) -> str:
    """What makes the steps of a run depend on how many there are to be; empty if nothing does."""
    if config.optimizer.schedule == "cosine":
        return "its learning rate (optimizer.schedule=cosine) falls to 0 at its last step"
    return METHODS[config.loss.method].if_longer
