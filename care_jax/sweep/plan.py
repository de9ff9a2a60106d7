"""What a sweep is going to make: every combination checked, and every folder looked into, before anything runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from ml_collections.config_dict import RequiredValueError

from care_jax import loggers
from care_jax.command_line import UsageError, say
from care_jax.data import DataSet
from care_jax.devices import sharding
from care_jax.evaluate.evaluation import monitors
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError, UnreadableConfigError, differences, from_plain, leaves, read_config
from care_jax.experiment.continuation import check_goes_on, counts
from care_jax.experiment.unused import check_data, unused
from care_jax.sweep import grid
from care_jax.sweep.grid import Grid
from care_jax.sweep.runs import Run, finished
from care_jax.workdir import holds_run, plain

FILE = "sweep.json"


class Plan(NamedTuple):
    """A sweep.

    Attributes:
      workdir: its folder.
      config: of all runs, before their own settings.
      grid: setting -> values.
      runs: of each combination, one a seed.
      finished: folders of the runs that are finished.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    grid: Grid
    runs: list[list[Run]]
    finished: frozenset[Path]

    @property
    def all(self) -> list[Run]:
        """The runs in the order in which they are made: the first seed of each combination first."""
        return [run for of_seed in zip(*self.runs, strict=True) for run in of_seed]

    @property
    def missing(self) -> list[Run]:
        """Those that are not finished."""
        return [run for run in self.all if run.workdir not in self.finished]

    def describe(self) -> str:
        """How many runs of what, in a line."""
        counts = [f"{len(values)} values of {name}" for name, values in self.grid.items()]
        counts.append(f"{len(self.runs[0])} seed{'s' * (len(self.runs[0]) > 1)}")
        return f"{len(self.all)} runs ({' x '.join(counts)}), {len(self.finished)} of them finished"


def make(config: ml_collections.ConfigDict, chosen: Grid, workdir: Path, seeds: int) -> Plan:
    """Plans a sweep; nothing is written.

    Args:
      config: of all runs; its seed is the first.
      chosen: setting -> values.
      workdir: folder of the sweep.
      seeds: of each combination.

    Raises:
      UsageError: the folder is of another sweep, or holds runs with other settings.
      LoggerError: one is not installed.
      ConfigError, DataError: a combination that can't be run, or its data.
    """
    before, mesh = _check_same(config, chosen, workdir), sharding.make_mesh()
    try:
        runs = grid.runs(config, chosen, workdir, seeds)
    except (AttributeError, LookupError, TypeError, RequiredValueError):
        build.check(config, mesh)  # something is missing in it, or is of another type: this says what
        raise
    for run in (run for of_seeds in runs for run in of_seeds[:1]):  # seeds differ in nothing that is checked
        try:
            build.check(run.config, mesh)
            monitors(run.config)
        except ConfigError as error:
            raise ConfigError(f"{run.workdir.parent.name}: {error}" if chosen else str(error)) from error
        loggers.check_installed(loggers.chosen(run.config.train.loggers))
    load, found = _Data(), set()
    for run in (run for of_seeds in runs for run in of_seeds):
        dataset = load(run.config)
        if finished(run.config, run.workdir, dataset) is not None:
            found.add(run.workdir)
        else:
            build.build(run.config, mesh, dataset)
            _check_begun(run)
    if gone := _left_out(before, [run.workdir for of_seeds in runs for run in of_seeds], workdir):
        say(
            f"{workdir}: the table, {FILE} and the page of this command are without finished runs that they had, "
            f"{gone}: the runs stay, and the command that made them writes them again"
        )
    return Plan(workdir, config, chosen, runs, frozenset(found))


def without_effect(plan: Plan, given: Sequence[str]) -> list[str]:
    """A line a setting that has no effect in runs of a sweep.

    Args:
      plan: of the sweep.
      given: the settings that the command line gave for all of its runs.

    Raises:
      UsageError: one that is swept has none in any run, so that runs of one seed would be the same.
      ConfigError: a setting of the data that the data lacks.
    """
    configs = [of_seeds[0].config for of_seeds in plan.runs]
    for config in configs:
        check_data(config, [*given, *plan.grid])
    lines = []
    for name in [*given, *plan.grid]:
        told = [line for config in configs for line in unused(config, [name])]
        if name in plan.grid and len(told) == len(configs):
            raise UsageError(f"--set {name}: {told[0]}")
        where = "" if len(told) == len(configs) else f"in {len(told)} of {len(configs)} combinations "
        lines += [f"{where}{told[0]}"] if told else []
    return lines


class _Data:
    """Loads data sets, each once where runs that have it follow each other."""

    def __init__(self) -> None:
        self._newest: tuple[str, DataSet] | None = None

    def __call__(self, config: ml_collections.ConfigDict) -> DataSet:
        settings = json.dumps([config.data.to_dict(), config.augment.placement])
        if self._newest is None or self._newest[0] != settings:
            self._newest = None
            self._newest = settings, build.load_data(config)
        return self._newest[1]


def _check_begun(run: Run) -> None:
    if not (run.workdir / "config.json").exists() or not holds_run(run.workdir):
        return
    try:
        begun = read_config(run.workdir)
    except UnreadableConfigError:
        return  # the run makes it again, and says so
    check_goes_on(begun, run.config, run.workdir)


def record(plan: Plan) -> dict[str, Any]:
    """What sweep.json says of a plan."""
    seeds = [run.config.seed for run in plan.runs[0]]
    return {"settings": plain(plan.config), "set": json.loads(json.dumps(dict(plan.grid))), "seeds": seeds}


def _left_out(before: Mapping[str, Any], folders: Sequence[Path], workdir: Path) -> str:
    """The finished runs of a sweep's record whose folders are none of these."""
    found: dict[str, list[str]] = {}
    for run in before.get("runs", ()):
        if run["state"] == "finished" and workdir / run["folder"] not in folders:
            row, _, seed = run["folder"].rpartition("/")
            found.setdefault(row, []).append(seed)
    return ", ".join(f"{row} ({', '.join(seeds)})" if row else ", ".join(seeds) for row, seeds in found.items())


def _check_same(config: ml_collections.ConfigDict, chosen: Grid, workdir: Path) -> dict[str, Any]:
    """One folder, one sweep; more values, or fewer, or other seeds are no other sweep. Its record so far, if any."""
    path = workdir / FILE
    if (workdir / "config.json").exists():
        raise UsageError(f"{workdir} is the folder of a run; give the sweep a --workdir of its own")
    try:
        before = json.loads(path.read_text())
        named, settings = set(before["set"]), before["settings"]
        _left_out(before, (), workdir)  # whether it can be read
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        say(f"{path} can't be read ({error}): it is written anew; the runs are told by their own folders")
        return {}
    if named != set(chosen):
        raise UsageError(
            f"{workdir} holds another sweep, of {' and '.join(sorted(named)) or 'seeds alone'}: give another --workdir"
        )
    changed = [
        line
        for line in differences(from_plain(settings).to_dict(), config.to_dict())
        if (name := line.removeprefix("config.").partition(":")[0]) not in {*chosen, "seed"} and counts(name)
    ]
    if changed:
        told = "; ".join(changed)
        raise UsageError(
            f"{workdir} holds a sweep with other settings ({told}): give its settings, or another --workdir"
        )
    return before


def dry_run(plan: Plan) -> str:
    """A line a run: its folder, and what would be done; then the settings that all share and differ from the base."""
    lines = []
    for run in plan.all:
        begun = holds_run(run.workdir)
        todo = "is finished" if run.workdir in plan.finished else "goes on" if begun else "to be made"
        lines.append(f"{run.workdir}: {todo}")
    return "\n".join([*lines, plan.describe()])


def combination(plan: Plan, of_seeds: Sequence[Run]) -> dict[str, Any]:
    """The swept settings of one combination, as JSON would return them."""
    values = leaves(plain(of_seeds[0].config))
    return {name: values[name] for name in plan.grid}
