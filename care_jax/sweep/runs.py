"""The runs of a table, none of which is made twice."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from care_jax.command_line import UsageError, say
from care_jax.data import DataSet
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.choice import filled
from care_jax.experiment.config import ConfigError, from_plain, leaves, read_config
from care_jax.experiment.continuation import changes, kept_choices
from care_jax.run import run
from care_jax.sweep.table import Summary
from care_jax.workdir import check_data


class Run(NamedTuple):
    """One run of a table: its configuration and its folder."""

    config: ml_collections.ConfigDict
    workdir: Path


def run_folders(workdir: Path) -> list[Path]:
    """What is called as the runs of a table are, ROW_seed_N, by name; but a draft, which begins with a dot."""
    return sorted(folder for folder in workdir.glob("*_seed_*") if not folder.name.startswith("."))


def finished_run(config: ml_collections.ConfigDict, workdir: Path) -> Summary:
    """The summary of a run, made now unless `workdir` has it.

    Raises:
      UsageError: `workdir` has that of another configuration or of an earlier step; or the run was stopped.
      DataError: the data has changed since.
    """
    build.check(config, sharding.make_mesh())
    found = finished(config, workdir)
    if found is not None:
        return found
    say(
        f"{workdir}: {config.loss.method}, {config.equivariance.term}, lambda {config.equivariance.weight:g}, "
        f"seed {config.seed}"
    )
    if not run(config, workdir):
        sys.exit(0)  # stopped, which it has said
    return _read(workdir / "summary.json")


def finished(config: ml_collections.ConfigDict, workdir: Path, dataset: DataSet | None = None) -> Summary | None:
    """The summary that `workdir` has, if it has one; raises what `finished_run` does.

    Args:
      config: that it has to be of.
      workdir: folder of the run.
      dataset: of the configuration, where it is at hand; None: it is loaded if there is a summary.
    """
    path = workdir / "summary.json"
    if not path.exists():
        return None
    summary = _read(path)
    _check_same(config, workdir, summary, dataset)
    return summary


def made_with(workdir: Path) -> ml_collections.ConfigDict:
    """The settings that the summary of a finished run was made with.

    Raises:
      UsageError, ConfigError: the summary, or the settings, can't be read.
    """
    summary = _read(workdir / "summary.json")
    # Summaries of before say nothing of the settings that they were made with; the folder does.
    return from_plain(summary["config"]) if "config" in summary else read_config(workdir)


def summary_of(workdir: Path) -> Summary:
    """The summary of a finished run, of whatever settings.

    Raises:
      UsageError: it can't be read.
    """
    return _read(workdir / "summary.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text())
        if not isinstance(summary, dict) or "steps" not in summary:
            raise ValueError("it is no summary of a run")
        return summary
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read ({error}): delete it, and the same command evaluates anew") from error


def _check_same(
    config: ml_collections.ConfigDict, workdir: Path, summary: Mapping[str, Any], dataset: DataSet | None
) -> None:
    """A row of a table is of the configuration that it is said to be of, and of its last step."""
    made = made_with(workdir)
    if different := changes(made, config):
        raise UsageError(
            f"{workdir} holds a run with other settings ({'; '.join(different)}): {_remedy(workdir, different, config)}"
        )
    config = filled(config, kept_choices(made, config))  # what it chose for its data and devices: here are others
    experiment = build.build(config, dataset=dataset)
    check_data(workdir, experiment.dataset)
    if summary["steps"] != experiment.num_steps:
        raise UsageError(
            f"{workdir / 'summary.json'} is of step {summary['steps']}, not {experiment.num_steps}: make that of the "
            f"last step again with python -m care_jax.evaluate --workdir={workdir}"
        )


def _remedy(workdir: Path, different: Sequence[str], config: ml_collections.ConfigDict) -> str:
    """What makes a run that of a configuration: an evaluation where no more is wanted, for training takes long."""
    anew = "delete it to make it anew, or give another --workdir"
    try:
        others = changes(read_config(workdir), config)  # which an evaluation begins with
    except ConfigError:
        return anew
    values = {f"config.{name}": value for name, value in leaves(config).items()}
    names = [line.partition(":")[0] for line in others]
    if not all(line.startswith("config.evaluate.") for line in (*different, *names)) or not {*names} <= values.keys():
        return anew
    flags = [f"--{name}={values[name]}".replace(" ", "") for name in names]
    command = shlex.join(["care-jax", "evaluate", f"--workdir={workdir}", *flags])
    return f"its evaluation alone is another, and {command} makes its numbers anew; or give another --workdir"
