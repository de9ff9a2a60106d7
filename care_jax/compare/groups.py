"""Runs that differ in their seed alone are one group; groups have short names, and settings in which they differ."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from care_jax.compare.runs import FoundRun
from care_jax.errors import printable
from care_jax.experiment.continuation import counts
from care_jax.experiment.settings import rules

ABSENT = "absent"


class Group(NamedTuple):
    """Runs of the same settings, but for their seeds, on the same data.

    Attributes:
      name: short, another for each group.
      runs: one a seed.
    """

    name: str
    runs: tuple[FoundRun, ...]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of its runs; `seed` and those that count for nothing are the first one's."""
        return self.runs[0].settings

    @property
    def finished(self) -> list[FoundRun]:
        """Those of its runs that have a summary."""
        return [run for run in self.runs if run.summary is not None]

    def values(self, measure: str) -> np.ndarray:
        """A measure of its finished runs, float64; without those in which it is no finite number."""
        found = [run.summary.get(measure) for run in self.finished if run.summary is not None]
        numbers = np.asarray([x for x in found if type(x) in (int, float)], np.float64)
        return numbers[np.isfinite(numbers)]


def group(runs: Sequence[FoundRun]) -> tuple[list[Group], list[str]]:
    """Groups of runs, in the order of their first ones; and lines on runs that are no further seeds.

    Runs of the same settings with the same seed, with other data or evaluated at another step are groups of their own.
    """
    alike: dict[str, list[list[FoundRun]]] = {}
    notes = []
    for run in runs:
        key = json.dumps(_counting(run), sort_keys=True)
        for members in alike.setdefault(key, []):
            if not any(_apart(run, member) for member in members):
                members.append(run)
                break
        else:
            if alike[key]:
                other, why = next((one, why) for one in alike[key][0] if (why := _apart(run, one)))
                notes.append(
                    f"{run.workdir} and {other.workdir} have the same settings and {why}: no seeds of one group"
                )
            alike[key].append([run])
    found = sorted((members for of_key in alike.values() for members in of_key), key=lambda one: runs.index(one[0]))
    return [Group(name, tuple(one)) for name, one in zip(_names(found), found, strict=True)], notes


def _counting(run: FoundRun) -> dict[str, Any]:
    return {name: value for name, value in run.settings.items() if name != "seed" and counts(name)}


def _apart(run: FoundRun, other: FoundRun) -> str:
    """Why runs of the same settings are no two seeds of one group; empty if they are."""
    if run.settings.get("seed") == other.settings.get("seed"):
        return f"the same seed, {run.settings.get('seed')}"
    if run.data and other.data and run.data != other.data:
        return "other data"
    steps = [one.summary["steps"] for one in (run, other) if one.summary is not None]
    return f"numbers of different steps, {steps[0]} and {steps[1]}" if len(set(steps)) > 1 else ""


def differing(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The settings in which groups differ, in the order of configs/base.py -> the value of each group."""
    order = [name for name in rules() if name != "seed" and counts(name)]
    there = {name for one in groups for name in _counting(one.runs[0])}
    names = [name for name in order if name in there] + sorted(there - set(order))
    values = {name: [one.settings.get(name, ABSENT) for one in groups] for name in names}
    return {name: of_groups for name, of_groups in values.items() if any(x != of_groups[0] for x in of_groups)}


def _names(groups: Sequence[Sequence[FoundRun]]) -> list[str]:
    """What their runs' shortest names have in common, or all of the first one's."""
    paths = [run.workdir for members in groups for run in members]
    shortest = dict(zip(paths, short_names(paths), strict=True))
    wanted = []
    for members in groups:
        names = [shortest[run.workdir] for run in members]
        alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
        common = "".join(letters[0] for letters in alike).rstrip("0123456789") if len(names) > 1 else names[0]
        wanted.append(common.rstrip("/_-=. ").removesuffix("seed").rstrip("/_-=. ") or names[0])
    clashes = Counter(wanted)
    return [
        name if clashes[name] == 1 else shortest[members[0].workdir]
        for name, members in zip(wanted, groups, strict=True)
    ]


def short_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that tell them apart, without what all of them end with.

    >>> short_names([Path("/a/one/run"), Path("/a/two/run"), Path("/a/three")])
    ['one/run', 'two/run', 'three']
    >>> short_names([Path("/a/one/run"), Path("/a/two/run")])
    ['one', 'two']
    """
    parts = [path.resolve().parts for path in paths]
    while len(parts) > 1 and len({own[-1:] for own in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [own[:-1] for own in parts]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        names.append(printable("/".join(own[-length:])))  # of bytes that are no text, too
    return names
