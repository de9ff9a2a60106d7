"""A trained encoder, taken out of a run without its data: what the commands for a finished run begin with.

    model = care_jax.trained.load("runs/digits")
    features, embeddings = model.encoder.apply(model.encoder_variables, images)  # normalised, [b, h, w, 3]

Needs the extra `train`.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
from absl import flags

from care_jax import help, models
from care_jax.command_line import UsageError, fail, given_settings, parse_flags, say, user_errors
from care_jax.devices import sharding
from care_jax.experiment import build, stand_in
from care_jax.experiment.architecture import make_encoder
from care_jax.experiment.build import Experiment
from care_jax.experiment.config import differences, from_plain, read_config
from care_jax.experiment.stand_in import StandIn
from care_jax.experiment.unused import check_data
from care_jax.storage import local_path
from care_jax.train import checkpoint_files
from care_jax.train.checkpoint_files import BEST_METRIC, CheckpointError, DamageError

_STEPS = 100_000  # of a run of whatever length: no array of a state depends on it


class Trained(NamedTuple):
    """What a run made.

    Attributes:
      workdir: of the run; the checkpoint's own folder, where that was given and lies in no run.
      config: that it was trained with.
      encoder: `models.Encoder`: its backbone and its projection head.
      variables: of all its networks, NumPy: {"params": {"backbone": ..., "head": ..., ...}, "batch_stats": ...}.
      step: updates behind them.
      info: what was saved beside them: `params_sha256`, `seconds`, ...
    """

    workdir: Path
    config: ml_collections.ConfigDict
    encoder: models.Encoder
    variables: dict[str, Any]
    step: int
    info: Mapping[str, Any]

    @property
    def encoder_variables(self) -> dict[str, Any]:
        """Those of the encoder alone."""
        return {
            name: {part: values[part] for part in ("backbone", "head") if part in values}
            for name, values in self.variables.items()
        }


def load(place: str | os.PathLike[str], step: str = "", *, warn: Callable[[str], None] = say) -> Trained:
    """Reads a checkpoint and proves that it is what was saved. Nothing is written; the run may be going on.

    Args:
      place: the folder of a run, or of one of its checkpoints, `runs/mine/checkpoints/500`; in a string `~` is home.
      step: which checkpoint of the run: a step, "best", or "" for the newest that is whole.
      warn: told of damaged ones that are passed over.

    Raises:
      PathError: the place is an address, or no path.
      UsageError: there is no such checkpoint.
      CheckpointError: it can't be read, or is damaged.
      ConfigError: the settings of the run can't be used.
    """
    workdir, folders = _folders(_path(place), step)
    for folder in folders:
        try:
            return _read(folder, workdir)
        except DamageError as damage:
            if folder == folders[-1]:
                raise CheckpointError(f"checkpoint {folder} can't be used: {damage}") from damage
            warn(f"checkpoint {folder} can't be used: {damage}; an older one is taken")
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {folder} can't be used: {error}") from error
    raise AssertionError("there is a folder at least")


def config_of(place: str | os.PathLike[str], step: str = "") -> ml_collections.ConfigDict:
    """The settings of the run that `load` would take an encoder from; raises what it does."""
    workdir, folders = _folders(_path(place), step)
    return _config(folders[0], workdir)


def without_data(config: ml_collections.ConfigDict) -> Experiment:
    """The pieces of a run but its data, on one device: its networks depend neither on the inputs nor on their number.

    Raises:
      ConfigError: the settings can't be used.
    """
    few = config.copy_and_resolve_references()
    with few.unlocked():
        few.train.num_steps = _STEPS
    images = stand_in.dataset(config.data.name, StandIn(_STEPS * config.train.batch_size, "of any size"))
    return build.build(few, sharding.make_mesh(jax.devices()[:1]), images)._replace(config=config)


def check_only(begun: ml_collections.ConfigDict, now: ml_collections.ConfigDict, *free: str) -> None:
    """Whether nothing but settings whose names begin with one of `free` was changed.

    Raises:
      UsageError: naming the others.
    """
    changed = [line for line in differences(begun.to_dict(), now.to_dict()) if not line.startswith(free)]
    if changed and not free:
        raise UsageError(f"no setting may be changed here, but there is {'; '.join(changed)}")
    if changed:
        raise UsageError(f"only {' and '.join(f'{name}*' for name in free)} may be changed, not {'; '.join(changed)}")


def _read(folder: Path, workdir: Path) -> Trained:
    config = _config(folder, workdir)
    state, info = checkpoint_files.read(folder, build.abstract_state(without_data(config)), int(folder.name))
    return Trained(workdir, config, make_encoder(config), state.variables, int(folder.name), info)


def _config(folder: Path, workdir: Path) -> ml_collections.ConfigDict:
    """As it was saved in the checkpoint; the first ones had none."""
    with suppress(CheckpointError):
        settings = checkpoint_files.read_info(folder).get("config")
        if isinstance(settings, dict):
            return from_plain(settings)
    return read_config(workdir)


def _path(place: str | os.PathLike[str]) -> Path:
    return local_path(place, "place") if isinstance(place, str) else Path(place)


def _folders(place: Path, step: str) -> tuple[Path, list[Path]]:
    """The run's folder, and those of its checkpoints that may be taken, the first choice first."""
    if _is_checkpoint(place):
        if step:
            raise UsageError(f"{place} is one checkpoint: leave --step={step} out, or give the folder of the run")
        folder = place.absolute()
        return (folder.parents[1] if folder.parent.name == "checkpoints" else place), [place]
    folder = place / "checkpoints"
    try:
        found = [path for path in folder.iterdir() if path.name.isdigit() and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except OSError as error:
        raise UsageError(f"can't look into {folder}: {error.strerror}") from error
    steps = sorted((int(path.name) for path in found), reverse=True)
    if not steps:
        there = "holds no checkpoint yet" if (place / "config.json").exists() else "is not the folder of a run"
        raise UsageError(f"{place} {there}; give one that `python -m care_jax.main --workdir=...` has saved to")
    if step == "best":
        best = checkpoint_files.best(folder, steps, BEST_METRIC)
        if best is None:
            raise UsageError(NO_BEST)
        return place, [folder / str(best)]
    number = step_number(step)
    if number is None:
        return place, [folder / str(one) for one in steps]
    if number not in steps:
        raise UsageError(f"no checkpoint of step {step} in {folder}; there are {sorted(steps)}")
    return place, [folder / str(number)]


def step_number(step: str) -> int | None:
    """What a flag --step names, but "best"; None for the newest.

    Raises:
      UsageError: it is no number.
    """
    if step and not re.fullmatch(r"[0-9]{1,18}", step):
        raise UsageError(f"--step={step}: give a step, 'best', or leave it out for the newest checkpoint")
    return int(step) if step else None


NO_BEST = (
    "--step=best: no checkpoint of this run was ranked (no labels, knn not in evaluate.monitor, or none evaluated yet)"
)


def _is_checkpoint(place: Path) -> bool:
    return place.name.isdigit() and (place / "info").is_dir()


def parse(
    argv: list[str], example: str, flag_values: flags.FlagValues = flags.FLAGS, *, least: int = 1, most: int = 1
) -> list[str]:
    """The flags of a command for a trained model, `care-jax COMMAND WORKDIR ... --flag=value`.

    The settings of the run become flags too, `--config.data.root=elsewhere`, with its names and types.

    Args:
      argv: the command line.
      example: of one, for the message where a word is missing.
      flag_values: those that the command defines; it gets "config".
      least, most: how many words there must be, the workdir the first of them.

    Returns:
      The words, after the command's name.
    """
    place = first_word(argv, flag_values)
    config = None
    if place:
        with user_errors():
            config = config_of(local_path(place, "WORKDIR"), step_flag(argv))
    words = parse_flags(argv, "", flag_values, config, words=True)[1:]
    if config is not None:
        with user_errors():
            check_data(flag_values["config"].value, given_settings(flag_values))
    if len(words) < least:
        fail(f"{'something' if words else 'the folder of a run'} is missing: {example} for instance")
    if len(words) > most:
        fail(f"{words[most]!r} is one word too many; settings are given as --config.section.key=value")
    return words


def images_flag(flag_values: flags.FlagValues = flags.FLAGS) -> str | None:
    """The folder that --images names; None where it is not given, and --part of the run's data is meant.

    Raises:
      UsageError: both are given; an address.
    """
    folder: str | None = flag_values["images"].value
    if folder is None:
        return None
    if flag_values["part"].present:
        raise UsageError(
            f"--part={flag_values['part'].value} is of a data set, and --images={folder} is a folder: "
            "leave one of them out"
        )
    return str(local_path(folder, "--images"))


def step_flag(argv: list[str]) -> str:
    """The value of --step among flags that are not parsed yet, the last as of all flags; empty if there is none."""
    step = ""
    for i, word in enumerate(argv):
        if re.match(r"--?step(=|$)", word):
            _, given, value = word.partition("=")
            step = value if given else "".join(argv[i + 1 : i + 2])
    return step


def first_word(argv: list[str], flag_values: flags.FlagValues) -> str:
    """The first argument that is neither a flag nor the value of one; empty if there is none."""
    known = flags.FlagValues()
    known.append_flag_values(flag_values)
    try:
        rest = known(help.without(argv), known_only=True)[1:]  # absl's own --help would end with status 1
    except flags.Error:  # which the parser proper will say
        return ""
    # A setting's flag is not known yet: the word after it is its value.
    values = [i + 1 for i, word in enumerate(rest) if re.fullmatch(r"--?config(\.\w+)+", word)]
    return next((word for i, word in enumerate(rest) if not word.startswith("-") and i not in values), "")
