"""The numbers of another run beside those of this one, as far as they may be compared."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from care_jax.command_line import UsageError
from care_jax.data import CLASS
from care_jax.errors import printable
from care_jax.evaluate.evaluators import EVALUATORS, of_usual_share
from care_jax.evaluate.measure import Measure
from care_jax.experiment.config import ConfigError, from_plain, leaves

# Settings that say which images are judged.
OF_THE_DATA = ("data.name", "data.class_file", "data.test_fraction", "data.window_lengths", "data.window_stride")
# Settings that the pixels in the record of a run's data depend on, and which broken files are among its examples.
OF_THE_PIXELS = ("data.image_size", "data.stored_size", "augment.placement")
# Settings, by how they begin -> the evaluators whose numbers they change; other settings of evaluate: of all.
_READ_BY = {
    "evaluate.knn_": ("knn",),
    "evaluate.probe.": ("linear_probe", "label_fractions"),
    "evaluate.finetune.": ("finetune",),
    "evaluate.label_fractions": ("label_fractions",),
    "evaluate.num_augmentations": ("equivariance", "motion", "term_space"),
    "augment.equivariance.": ("equivariance", "motion", "term_space", "parameters"),
    "augment.invariance.": ("alignment", "finetune"),
}
# Of no number at the end.
_OF_NONE = ("evaluate.monitor", "evaluate.batch_size", "evaluate.online_probe")
_TABLES = ("sweep.json", "table.md")  # what a folder of runs that belong together holds


class Record(NamedTuple):
    """What a run noted of its data, as far as it tells data sets apart.

    Attributes:
      whole: digest of all of it.
      rest: digest of what depends on no size of pixels: numbers of examples, labels, files; empty where it is damaged.
      tells: whether that is more than numbers of examples.
    """

    whole: str
    rest: str
    tells: bool

    def same(self, other: "Record", *, pixels: bool) -> bool | None:
        """Whether two records are of the same data; None where they can't tell.

        Args:
          other: of another run.
          pixels: whether the two runs keep pixels alike: all of `OF_THE_PIXELS` are the same.
        """
        if self.whole == other.whole or pixels:
            return self.whole == other.whole
        if not self.rest or not other.rest:
            return None
        return False if self.rest != other.rest else True if self.tells else None


def record_of(content: bytes) -> Record:
    """The record that a data.json.gz holds, by its unpacked content; a damaged one has no rest."""
    first, _, files = content.partition(b"\n")
    try:
        parts = [
            # Records of before call the classes "label".
            (name, part["examples"], {CLASS if x == "label" else x: digest for x, digest in part["labels"].items()})
            for name, part in json.loads(first)["parts"].items()
        ]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return Record(_digest(content), "", tells=False)
    if files:  # which say all: of those that can't be decoded, examples and labels are there or not by the placement
        return Record(_digest(content), _digest(files), tells=True)
    tells = any(labels for _, _, labels in parts)
    return Record(_digest(content), _digest(json.dumps(parts, sort_keys=True).encode()), tells)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Baseline(NamedTuple):
    """Another run's numbers.

    Attributes:
      name: of its folder.
      numbers: name -> value; of its summary.json those that compare with this run's.
      notes: lines for the reader: where it was found, what does not compare, and why.
    """

    name: str
    numbers: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def read(folder: Path, workdir: Path, config: ml_collections.ConfigDict, step: int | None = None) -> Baseline:
    """The run that the user names.

    Args:
      folder: of that run.
      workdir: of this one.
      config: of this one, as it is evaluated.
      step: of this one; None where it is not known yet.

    Raises:
      UsageError: one line: there is no run, it is not finished, or it is this one.
    """
    told = f"--baseline={folder}"
    if not folder.is_dir():
        raise UsageError(f"{told}: there is no such folder; give that of a finished run, of SimCLR for instance")
    if folder.resolve() == workdir.resolve():
        raise UsageError(f"{told} is the run that is evaluated; give another run's folder")
    path = folder / "summary.json"
    try:
        summary = _summary(path)
    except FileNotFoundError as error:
        raise UsageError(f"{told} has no summary.json: give the folder of a run that is finished") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{told}: {path} can't be read ({error}); care-jax evaluate {folder} writes it") from error
    return _compared(folder, workdir, summary, config, step)


def find(workdir: Path, config: ml_collections.ConfigDict, step: int | None = None) -> Baseline | None:
    """In a sweep or a table: the run beside this one that differs from it by having no equivariance term alone.

    None where this run has no term itself, lies in no sweep, or there is no such run that is finished.

    Args:
      workdir: of this run.
      config: of this run, as it is evaluated.
      step: of this run; None where it is not known yet.
    """
    if not config.equivariance.weight:
        return None
    ours = _plain(leaves(config.to_dict()))
    for folder in _beside(workdir.resolve()):
        try:
            summary = _summary(folder / "summary.json")
            theirs = _settings(summary)
        except (OSError, ValueError, RecursionError, ConfigError):
            continue  # one that is not finished, or damaged: it says so itself when it is evaluated
        differ = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
        if theirs.get("equivariance.weight") == 0 and all(name.startswith("equivariance.") for name in differ):
            found = _compared(folder, workdir, summary, config, step)
            others = [f", {one}={theirs.get(one)}" for one in sorted(differ - {"equivariance.weight"})]
            note = f"the baseline is {found.name}, the run beside this one that differs in "
            note += f"equivariance.weight=0{''.join(others)} alone"
            return found._replace(notes=(note, *found.notes))
    return None


def read_by(setting: str) -> tuple[str, ...]:
    """The evaluators whose numbers a setting changes.

    >>> read_by("evaluate.knn_k"), read_by("evaluate.monitor"), read_by("train.batch_size")
    (('knn',), (), ())
    """
    if setting.startswith(_OF_NONE):
        return ()
    found = next((of for start, of in _READ_BY.items() if setting.startswith(start)), None)
    if found is None:
        found = tuple(EVALUATORS) if setting.startswith("evaluate.") else ()
    return tuple(name for name in found if name in EVALUATORS)


def _beside(workdir: Path) -> Iterator[Path]:
    for root in (workdir.parent, workdir.parent.parent):
        if any((root / name).is_file() for name in _TABLES):
            found = {path.parent for depth in ("*", "*/*") for path in root.glob(f"{depth}/summary.json")}
            yield from sorted(found - {workdir})
            return


def _summary(path: Path) -> dict[str, Any]:
    summary = json.loads(path.read_text())
    if not isinstance(summary, dict) or type(summary.get("steps")) is not int:
        raise ValueError("it is no summary of a run")
    return summary


def _settings(summary: Mapping[str, Any]) -> dict[str, Any]:
    config = summary.get("config")
    if not isinstance(config, dict):
        raise ValueError("it does not say which settings it was made with")
    return _plain(leaves(from_plain(config).to_dict()))


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _compared(
    folder: Path, workdir: Path, summary: Mapping[str, Any], config: ml_collections.ConfigDict, step: int | None
) -> Baseline:
    name = printable(folder.parent.name if folder.name.startswith("seed=") else folder.name)
    try:
        theirs = _settings(summary)
    except (ValueError, ConfigError) as error:
        return Baseline(name, {}, (f"the numbers of {name} are not compared: {error}",))
    ours = _plain(leaves(config.to_dict()))
    differ = [x for x in sorted(ours.keys() | theirs.keys()) if ours.get(x) != theirs.get(x)]
    told = {x: f"{x} is {theirs.get(x)!r} there, {ours.get(x)!r} here" for x in differ}
    if on_others := [told[x] for x in differ if x in OF_THE_DATA]:
        return Baseline(
            name, {}, (f"the numbers of {name} are not compared, it saw other data: {'; '.join(on_others)}",)
        )
    records = {one: _content(one) for one in (folder, workdir)}
    notes = [
        f"whether {name} saw the same data is not known: {one / 'data.json.gz'} is not there, or can't be read"
        for one, record in records.items()
        if not record
    ]
    if not notes:
        there, here = (record_of(records[one]) for one in (folder, workdir))
        of_pixels = [told[x] for x in differ if x in OF_THE_PIXELS]
        same = there.same(here, pixels=not of_pixels)
        if same is False:
            return Baseline(name, {}, (f"the numbers of {name} are not compared: its record of the data is another",))
        if same is None:
            notes.append(
                f"whether {name} saw the same data is not known: without pixels, which do not compare "
                f"({'; '.join(of_pixels)}), the records of the data do not tell"
            )
    apart: dict[str, list[str]] = {}
    for setting in differ:
        for evaluator in read_by(setting):
            apart.setdefault(evaluator, []).append(told[setting])
    if apart:
        reasons = dict.fromkeys(reason for of in apart.values() for reason in of)
        notes.append(f"not compared with {name}, evaluated otherwise: {', '.join(apart)} ({'; '.join(reasons)})")
    if step is not None and summary["steps"] != step:
        notes.append(f"{name} is of {summary['steps']:,} steps, this run of {step:,}")
    left_out = {measure for evaluator in apart for measure in _names(evaluator, summary)}
    return Baseline(name, {x: value for x, value in summary.items() if x not in left_out | {"config"}}, tuple(notes))


def _names(evaluator: str, summary: Mapping[str, Any]) -> dict[str, Measure]:
    """The evaluator's measures, for whatever labellings the summary has numbers of."""
    words = [name.split("_") for name in summary]
    beginnings = {"_".join(of[:end]) for of in words for end in range(1, len(of))}
    known = EVALUATORS[evaluator].measures(("class", *sorted(beginnings)))
    return {name: known[of] for name in summary if (of := of_usual_share(name)) in known}


def _content(folder: Path) -> bytes:
    """What the run noted of its data; empty where it can't be read."""
    try:
        return gzip.decompress((folder / "data.json.gz").read_bytes())
    except (OSError, EOFError, zlib.error):
        return b""
