"""The runs that a command line names, and what their folders hold: settings, summary, curves."""

import glob
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from care_jax.command_line import UsageError
from care_jax.errors import UserError
from care_jax.evaluate.baseline import Record, record_of
from care_jax.experiment.config import from_plain, leaves
from care_jax.storage import local_path
from care_jax.train.metric_writer import read_metrics

_FILES = ("config.json", "summary.json", "metrics.jsonl")
_DEPTH = 3  # levels below a folder that are looked through for runs
_SHOWN = 5  # names in a line


class FoundRun(NamedTuple):
    """What a run's folder holds.

    Attributes:
      workdir: the folder, as it was named.
      settings: dotted name -> value; those that its numbers were made with.
      summary: of summary.json; None where the run is not finished.
      rows: of metrics.jsonl.
      data: the record of its data set; None where there is none.
      notes: what was damaged or missing, in lines for the user.
      failed: whether it is known to have failed, to whoever made it.
    """

    workdir: Path
    settings: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    rows: list[dict[str, float]]
    data: Record | None
    notes: tuple[str, ...] = ()
    failed: bool = False

    @property
    def step(self) -> int:
        """The last step that it tells of."""
        steps = [row["step"] for row in self.rows] + [(self.summary or {}).get("steps") or 0]
        return int(max(steps))


def find(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The folders of runs that are named: themselves, by a pattern, or by a folder that they lie in.

    Args:
      words: of the command line.

    Returns:
      The folders, each once, in that order; and lines on what was left out.

    Raises:
      UsageError: a path leads nowhere, or there is no run among all that is named.
    """
    found: dict[Path, Path] = {}
    twice, others = [], []
    for path in (path for word in words for path in _named(word)):
        try:
            runs = _runs(path.parent if path.name in _FILES and path.is_file() else path)
        except OSError as error:
            raise UsageError(f"{path} can't be looked into: {error.strerror}") from error
        if not runs:
            others.append(path)
        for run in runs:
            if found.setdefault(run.resolve(), run) is not run:
                twice.append(run)
    notes = []
    if others:
        notes.append(f"left out, because there is no run there: {_listed(others)}")
    if twice:
        notes.append(f"named more than once, taken once: {_listed(dict.fromkeys(twice))}")
    if not found:
        raise UsageError(f"no run in {_listed(others)}: give folders that --workdir of care_jax.main made")
    return list(found.values()), notes


def _named(word: str) -> list[Path]:
    path = local_path(word, "RUN")
    try:
        if path.exists():
            return [path]
        matches = sorted(map(Path, glob.glob(str(path))), key=_natural) if glob.has_magic(word) else []
    except (OSError, ValueError) as error:
        raise UsageError(f"{word} can't be looked into: {error}") from error
    if not matches:
        raise UsageError(f"{word}: there is no such folder")
    return matches


def _natural(path: Path) -> list[tuple[float, str]]:
    """In the order of the numbers in its name: 0.3 before 10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", path.name)
    return [(float(part), "") if i % 2 else (-1.0, part) for i, part in enumerate(parts)]


def _runs(path: Path, depth: int = _DEPTH) -> list[Path]:
    """The folder itself where it is a run's, else the runs below it."""
    if not path.is_dir():
        return []
    if any((path / name).is_file() for name in _FILES):
        return [path]
    below = sorted((folder for folder in path.iterdir() if folder.is_dir()), key=_natural) if depth else []
    return [run for folder in below for run in _runs(folder, depth - 1)]


def _listed(paths: Iterable[Path]) -> str:
    names = [str(path) for path in paths]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def read(workdir: Path) -> FoundRun:
    """What a run's folder holds; whatever is damaged counts as not there, and is said.

    Raises:
      UsageError: its settings can't be read.
    """
    notes: list[str] = []
    summary = _json(workdir / "summary.json", notes)
    if summary is not None and type(summary.get("steps")) is not int:
        notes.append(f"{workdir / 'summary.json'} is no summary of a run: its numbers are left out")
        summary = None
    # An evaluation of its own may have had other settings than the run. The first summaries held none.
    made_with = summary.get("config") if summary else None
    settings = made_with if isinstance(made_with, dict) else _json(workdir / "config.json", notes)
    if settings is None:
        reason = f" ({notes[-1]})" if notes else ""
        raise UsageError(f"{workdir} has no settings{reason}: it can't be compared")
    return FoundRun(
        workdir=workdir,
        settings=_settings(settings, workdir, notes),
        summary=summary,
        rows=_rows(workdir, notes),
        data=_record(workdir / "data.json.gz", notes),
        notes=tuple(notes),
    )


def _json(path: Path, notes: list[str]) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it holds something else")
        return content
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path} can't be read ({error}): it is taken as missing")
        return None


def _settings(settings: Mapping[str, Any], workdir: Path, notes: list[str]) -> dict[str, Any]:
    """With those that came later, as the run did it."""
    try:
        found = leaves(from_plain(settings))
    except Exception as error:  # damaged in any way; or an extension, whose code can raise anything
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        notes.append(f"{workdir}: its settings are shown as they were written down ({told})")
        found = leaves(settings)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _rows(workdir: Path, notes: list[str]) -> list[dict[str, float]]:
    try:
        rows = read_metrics(workdir, warn=notes.append)
    except OSError as error:
        notes.append(f"{workdir / 'metrics.jsonl'} can't be read ({error.strerror}): no curves")
        return []
    if not rows:
        notes.append(f"{workdir}: no rows in metrics.jsonl, so no curves")
    return rows


def _record(path: Path, notes: list[str]) -> Record | None:
    try:
        return record_of(gzip.decompress(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error) as error:
        notes.append(f"{path} can't be read ({error}): whether the data is the same is not known")
        return None
