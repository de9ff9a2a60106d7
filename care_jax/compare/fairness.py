"""What stands in the way of a comparison: other data, other settings of the evaluation, other devices."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from care_jax.compare.groups import ABSENT, Group
from care_jax.compare.runs import FoundRun
from care_jax.evaluate.baseline import OF_THE_DATA, OF_THE_PIXELS, Record, read_by
from care_jax.evaluate.evaluators import EVALUATORS, OF_THE_RUN, find, of_usual_share
from care_jax.evaluate.measure import Measure

# Settings that say how large an input is: pixels of an image, points of a cloud.
_OF_THE_INPUT = ("data.image_size", "data.window_lengths")
_SPEEDS = tuple(name for name, measure in OF_THE_RUN.items() if measure.better)
_NO_RECORD = "no record"
_MONITOR = "evaluate.monitor_examples"
_LONGEST = 60  # characters of the names of groups in a line


class Fairness(NamedTuple):
    """What may be compared.

    Attributes:
      notes: lines for the reader, what differs and what is therefore not compared.
      apart: evaluators whose numbers do not compare between the groups.
      devices: whether times do: on the same devices, of inputs of the same size.
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
    records, untold = _records(groups)
    for what, values in (("data sets", _chosen(groups, OF_THE_DATA)), ("data", records)):
        if len({*values} - {_NO_RECORD}) > 1:
            apart |= set(EVALUATORS)
            notes.append(
                f"on different {what}: {told(groups, values)}: their numbers do not compare, no best is marked"
            )
            break
    else:
        if untold:
            notes.append(
                "whether the data is the same is not known: without pixels, which do not compare where image sizes or "
                f"augment.placement differ, the records of the data do not tell: {', '.join(untold)}"
            )
    if unknown := [one.name for one in groups if _record(one) is None]:
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
    of_speed, comparable = _speeds(groups)
    return Fairness((*notes, *of_speed), frozenset(apart), comparable)


def _speeds(groups: Sequence[Group]) -> tuple[list[str], bool]:
    """Lines on what stands between the groups' times, and whether they compare."""
    devices = [", ".join(sorted({_device(run) for run in one.finished})) for one in groups]
    sizes = _chosen(groups, _OF_THE_INPUT)
    timed = [one for one in groups if any(len(one.values(name)) for name in _SPEEDS)]
    notes = []
    if len(set(devices) - {""}) > 1:
        notes.append(f"trained on different devices, so times do not compare: {told(groups, devices)}")
    if len(set(sizes)) > 1 and len(timed) > 1:
        notes.append(f"inputs of different sizes, so times do not compare: {told(groups, sizes)}")
    same = len(set(devices) - {""}) < 2 and len(set(sizes)) < 2
    if same and len(timed) > 1 and any(device.endswith(" x cpu") for device in devices):
        notes.append(
            f"speeds are compared between CPUs, of which {next(filter(None, devices))!r} tells neither kind nor number "
            "of cores: they compare only if the runs were made on one machine with the same share of its cores"
        )
    return notes, same


def _device(run: FoundRun) -> str:
    return str((run.summary or {}).get("device") or "not recorded")


def _chosen(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """For each group the values of those settings that differ."""
    columns = [[str(one.settings.get(name, ABSENT)) for one in groups] for name in names]
    differ = [column for column in columns if len(set(column)) > 1] or columns[:1]
    return [", ".join(values) for values in zip(*differ, strict=True)]


def _record(one: Group) -> Record | None:
    return next((run.data for run in one.runs if run.data is not None), None)


def _records(groups: Sequence[Group]) -> tuple[list[str], list[str]]:
    """A number for each data set, as their records tell them apart; and the groups whose records do not tell it."""
    # Of each data set, the records that may be of it, with the settings of their pixels.
    kinds: list[list[tuple[Record, str]]] = []
    numbers, untold = [], []
    for one in groups:
        record = _record(one)
        if record is None:
            numbers.append(_NO_RECORD)
            continue
        kept = str([one.settings.get(name, ABSENT) for name in OF_THE_PIXELS])
        of_kinds = [[record.same(other, pixels=kept == as_kept) for other, as_kept in kind] for kind in kinds]
        fitting = [i for i, of_kind in enumerate(of_kinds) if False not in of_kind]
        if not fitting:
            kinds.append([])
            fitting = [len(kinds) - 1]
        elif all(True not in of_kinds[i] for i in fitting):
            untold.append(one.name)
        for i in fitting:
            kinds[i].append((record, kept))
        numbers.append(f"record {' or '.join(str(i + 1) for i in fitting)}")
    return numbers, untold


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
