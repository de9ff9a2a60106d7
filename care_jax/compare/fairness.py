"""What stands in the way of a comparison: other data, other settings of the evaluation, other devices."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from care_jax.compare.groups import ABSENT, Group
from care_jax.compare.runs import FoundRun
from care_jax.evaluate.baseline import OF_THE_DATA, read_by
from care_jax.evaluate.evaluators import EVALUATORS, find, of_usual_share
from care_jax.evaluate.measure import Measure

# What the record of the data says depends on these too; where they differ, records tell nothing.
_OF_THE_RECORD = (*OF_THE_DATA, "data.image_size", "data.stored_size", "augment.placement")
_MONITOR = "evaluate.monitor_examples"
_LONGEST = 60  # characters of the names of groups in a line


class Fairness(NamedTuple):
    """What may be compared.

    Attributes:
      notes: lines for the reader, what differs and what is therefore not compared.
      apart: evaluators whose numbers do not compare between the groups.
      devices: whether times do.
    """

    notes: tuple[str, ...]
    apart: frozenset[str]
    devices: bool

    def allows(self, name: str) -> bool:
        """Whether the best of a measure may be marked."""
        usual = of_usual_share(name)
        of = {evaluator for evaluator, one in EVALUATORS.items() if usual in one.measures(_labellings(usual))}
        return not of & self.apart if of else self.devices


def _labellings(name: str) -> list[str]:
    words = name.split("_")
    return ["class", *("_".join(words[:end]) for end in range(1, len(words)))]


def measure_of(name: str) -> Measure:
    """What a number of summary.json is, or nothing but its name where this version knows none."""
    try:
        return find(name)
    except KeyError:
        return Measure("")


def judge(groups: Sequence[Group], differing: dict[str, list[Any]]) -> Fairness:
    """Whether groups may be compared, and what about.

    Args:
      groups: of runs.
      differing: the settings in which they differ -> the value of each.
    """
    notes, apart = [], set[str]()
    for what, values in (("data sets", _chosen(groups, OF_THE_DATA)), ("data", _records(groups))):
        if len(set(values)) > 1:
            apart |= set(EVALUATORS)
            notes.append(
                f"on different {what}: {told(groups, values)}: their numbers do not compare, no best is marked"
            )
            break
    if unknown := [one.name for one in groups if not any(run.data for run in one.runs)]:
        notes.append(
            f"whether the data is the same is not known, for want of a readable data.json.gz: {', '.join(unknown)}"
        )
    seen: dict[tuple[str, ...], list[str]] = {}
    for name, values in differing.items():
        if of := read_by(name):
            seen.setdefault(of, []).append(f"{name}: {told(groups, values)}")
    for of, lines in seen.items():
        apart |= set(of)
        means = "all measures" if len(of) == len(EVALUATORS) else f"the measures of {' and '.join(of)}"
        notes.append(
            f"evaluated with different settings ({'; '.join(lines)}): {means} do not compare, no best of them is marked"
        )
    monitored = [one.settings.get(_MONITOR, ABSENT) for one in groups]
    if any(x != monitored[0] for x in monitored):
        notes.append(f"the monitors' curves see different training examples, {_MONITOR}: {told(groups, monitored)}")
    devices = [", ".join(sorted({_device(run) for run in one.finished})) for one in groups]
    if len(set(devices) - {""}) > 1:
        notes.append(f"trained on different devices, so times do not compare: {told(groups, devices)}")
    return Fairness(tuple(notes), frozenset(apart), len(set(devices) - {""}) < 2)


def _device(run: FoundRun) -> str:
    return str((run.summary or {}).get("device") or "not recorded")


def _chosen(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """For each group the values of those settings that differ."""
    columns = [[str(one.settings.get(name, ABSENT)) for one in groups] for name in names]
    differ = [column for column in columns if len(set(column)) > 1] or columns[:1]
    return [", ".join(values) for values in zip(*differ, strict=True)]


def _records(groups: Sequence[Group]) -> list[str]:
    """A letter for each data set of the same name, as their records tell them apart; unknown ones are the first's."""
    found: dict[str, list[str]] = {}
    letters = []
    for one in groups:
        known = found.setdefault(str([one.settings.get(name, ABSENT) for name in _OF_THE_RECORD]), [])
        digest = next((run.data for run in one.runs if run.data), "")
        if digest and digest not in known:
            known.append(digest)
        letters.append(f"record {known.index(digest) + 1 if digest else 1}")
    return letters


def told(groups: Sequence[Group], values: Sequence[Any]) -> str:
    """Each value with the groups that have it."""
    names: dict[str, list[str]] = {}
    for one, value in zip(groups, values, strict=True):
        names.setdefault(str(value), []).append(one.name)
    parts = []
    for value, of in names.items():
        text = ", ".join(of)
        parts.append(f"{value} ({text if len(text) <= _LONGEST else f'{of[0]} and {len(of) - 1} more'})")
    return ", ".join(parts)
