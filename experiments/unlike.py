"""What keeps measures of a table's runs from being compared: other data, and other settings that they are judged by."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from care_jax.command_line import UsageError
from care_jax.compare.fairness import Fairness
from care_jax.errors import UserError
from care_jax.evaluate.baseline import read_by
from care_jax.experiment.config import leaves
from care_jax.sweep.runs import made_with
from care_jax.workdir import plain

_MONITOR = "evaluate.monitor_examples"  # of monitors alone: `read_by` is about the numbers at the end

Settings = Mapping[str, Any]  # by their dotted names
Folders = Mapping[str, Mapping[str, Path]]  # row -> seed -> folder of the run


def told(workdir: Path, folders: Folders, names: Sequence[str]) -> list[str]:
    """Lines on what is not the same of all runs and moves these measures; rows that are meant to differ have one.

    Args:
      workdir: of the table; the settings that its `table.json` has of a row differ on purpose.
      folders: of the runs.
      names: of measures, from the monitors.

    Raises:
      UsageError: a run is of other data than the first.
    """
    known, unknown = {}, []
    for seeds in folders.values():
        for folder in seeds.values():
            try:
                known[folder] = leaves(plain(made_with(folder)))
            except UserError:
                unknown.append(folder.name)
    lines = compared(known, names, _of_rows(workdir)) if known else []
    if unknown:
        lines.append(f"{workdir}: settings of {', '.join(unknown)} are not known, and not compared with the others'")
    return lines


def compared(runs: Mapping[Path, Settings], names: Sequence[str], of_rows: Mapping[str, Settings]) -> list[str]:
    """The same of settings that are read.

    Args:
      runs: folder ROW_seed_N -> all settings.
      names: of measures.
      of_rows: row -> its own settings, which are meant to differ.

    Raises:
      UsageError: as of `told`.
    """
    first, usual = next(iter(runs.items()))
    meant: dict[str, list[str]] = {}  # setting -> measures that it moves
    otherwise: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}  # differences -> runs, measures
    for folder, of_run in runs.items():
        differing = [name for name in sorted(usual.keys() | of_run.keys()) if usual.get(name) != of_run.get(name)]
        if any(name.startswith("data.") for name in differing):
            raise UsageError(f"{folder} is of other data than {first}; look at them apart")
        own = {name for run in (first, folder) for name in of_rows.get(run.name.rpartition("_seed_")[0], ())}
        moved = {name: measures for name in differing if (measures := _moved_by(name, names))}
        meant |= {name: measures for name, measures in moved.items() if name in own}
        if others := {name: measures for name, measures in moved.items() if name not in own}:
            differences = tuple(f"{name} is {of_run.get(name)!r}, not {usual.get(name)!r}" for name in others)
            runs_alike, _ = otherwise.setdefault(differences, ([], _all(others)))
            runs_alike.append(folder.name)
    lines = []
    if meant:
        lines.append(
            f"{first.parent}: by its table.json rows are meant to differ in {', '.join(meant)}: each has "
            f"{', '.join(_all(meant))} by its own"
        )
    for differences, (runs_alike, measures) in otherwise.items():
        verb = "is" if len(runs_alike) == 1 else "are"
        lines.append(
            f"{first.parent}: {', '.join(runs_alike)} {verb} judged otherwise than {first.name}: "
            f"{'; '.join(differences)}; {', '.join(measures)} of both are unlike things"
        )
    return lines


def _moved_by(setting: str, names: Sequence[str]) -> list[str]:
    fairness = Fairness((), frozenset(read_by(setting)), devices=True)
    return [name for name in names if setting == _MONITOR or not fairness.allows(name)]


def _all(moved: Mapping[str, Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in moved.values() for name in names))


def _of_rows(workdir: Path) -> dict[str, Settings]:
    """Where they can't be read, no difference is taken to be meant."""
    try:
        rows = json.loads((workdir / "table.json").read_text())["rows"]
        return {name: dict(row["settings"]) for name, row in rows.items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}
