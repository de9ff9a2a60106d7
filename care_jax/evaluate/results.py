"""What a run leaves for its reader: summary.json and report.html."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from care_jax import fits, storage
from care_jax.command_line import say
from care_jax.devices import sharding, to_the_first
from care_jax.devices.distributed import is_first
from care_jax.evaluate import baseline, evaluators, plots, report, sections, verdict
from care_jax.evaluate.baseline import Baseline
from care_jax.evaluate.evaluation import Evaluation
from care_jax.evaluate.measure import UNTRAINED, Measure, prefix
from care_jax.evaluate.report import Picture
from care_jax.experiment.build import Experiment
from care_jax.experiment.config import leaves
from care_jax.loggers import Final, Loggers
from care_jax.train.metric_writer import read_metrics
from care_jax.train.state import params_sha256
from care_jax.workdir import plain


def write(
    evaluation: Evaluation,
    workdir: Path,
    variables: dict[str, Any],
    *,
    step: int,
    seconds: float,
    device: str | None,
    check: Callable[[], None] = lambda: None,
    beside: Path | None = None,
    to: Loggers | None = None,
) -> dict[str, Any]:
    """Evaluates, then writes `summary.json` and `report.html` into `workdir`.

    Args:
      evaluation: of the run.
      workdir: folder of the run, with its `metrics.jsonl`.
      variables: of the encoder.
      step: updates behind them.
      seconds: of training behind them.
      device: that they were trained on; None where the checkpoint does not say.
      check: called before and after the files are written; raises where the folder is no longer the run's.
      beside: the folder of the run whose numbers the report has beside these; None: that of a sweep, if there is one.
      to: told of the numbers and the pictures.

    Returns:
      The content of summary.json.

    Raises:
      DoesNotFitError: it takes more memory than there is.
      UsageError: `beside` is not the folder of another run that is finished.
    """
    experiment = evaluation.experiment
    other = (
        baseline.read(beside, workdir, experiment.config, step)
        if beside
        else baseline.find(workdir, experiment.config, step)
    )
    for note in other.notes if other and is_first() else ():
        say(note)
    with fits.told(experiment.config, "evaluation"):
        measured = evaluation.measure(step, variables)
    to_the_first.skipped(experiment.dataset.skipped)
    for note in measured.notes if is_first() else ():
        say(note)
    rows = [row for row in read_metrics(workdir) if row["step"] <= step]
    images = step * experiment.config.train.batch_size
    summary = {
        **measured.numbers,
        "images_per_second": images / seconds if images and math.isfinite(seconds) and seconds > 0 else None,
        "step_images_per_second": step_speed(rows),
        "seconds": seconds,
        "steps": step,
        "params_sha256": params_sha256(variables["params"]),
        "device": device,
        "evaluated_on": sharding.described(experiment.mesh),
        "skipped_files": len(experiment.dataset.skipped),
        "config": plain(experiment.config),
    }
    with fits.told(experiment.config, "evaluation"):
        embedded = evaluation.embedded(step, variables)
        measures = evaluators.of_numbers(summary, embedded.labellings)
        pictures = sections.of_run(embedded, rows, measures)
        text = _report(experiment, summary, measures, pictures, other)
    check()
    if is_first():
        files = workdir / "summary.json", workdir / "report.html"
        storage.replace_file(files[0], json.dumps(summary, indent=2) + "\n")
        storage.replace_file(files[1], text)
        if to:
            numbers = {name: float(value) for name, value in summary.items() if _is_number(value)}
            to.finish(Final(step, numbers, _files(pictures), files))
    check()
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _files(pictures: Mapping[str, Picture]) -> dict[str, bytes]:
    """PNG files of the report's pictures by their names in it."""
    files: dict[str, bytes] = {}
    for heading, picture in pictures.items():
        for figure in picture.figures:
            title = figure.axes[0].get_title()
            name = f"{heading}: {title}" if title else heading
            files[f"{name} {len(files)}" if name in files else name] = plots.png(figure)
    return files


def step_speed(rows: Iterable[Mapping[str, float]]) -> float | None:
    """Images a second of the steps alone, over all rows of metrics.jsonl; None of no rows.

    >>> step_speed([{"step": 10, "images_per_second": 100.0}, {"step": 40, "images_per_second": 300.0}])
    200.0
    """
    before, steps, seconds = 0.0, 0.0, 0.0  # seconds: of steps of one image
    for row in rows:
        if "images_per_second" in row:
            steps += row["step"] - before
            seconds += (row["step"] - before) / row["images_per_second"]
            before = row["step"]
    return steps / seconds if seconds else None


def guessing(labels: np.ndarray, num_classes: int) -> float:
    """The accuracy of always saying the commonest class, percent; that of equal classes where nothing is labelled.

    >>> guessing(np.array([0] * 19 + [1]), 2)
    95.0
    """
    counts = np.bincount(labels, minlength=num_classes)
    return 100.0 * float(max(1.0 / num_classes, counts.max() / max(len(labels), 1)))


def _report(
    experiment: Experiment,
    summary: dict[str, Any],
    measures: Mapping[str, Measure],
    pictures: Mapping[str, Picture],
    beside: Baseline | None,
) -> str:
    config, dataset = experiment.config, experiment.dataset
    settings = config.equivariance
    added = f" + {settings.term}, lambda {settings.weight:g}" if settings.weight else ""
    title = f"care_jax: {dataset.name}, {config.loss.method}{added}"
    subtitle = (
        f"{config.model.backbone} of width {config.model.width}, {summary['steps']} steps of {config.train.batch_size} "
        f"{dataset.pretrain.noun}, seed {config.seed}, {summary['device'] or 'devices not recorded'}, "
        f"{summary['seconds']:.0f} s of training." + ("" if dataset.num_classes else " No labels: the probes are off.")
    )
    chances = {
        f"{begins}{of}": guessing(dataset.test.labels[labelling], count)
        for labelling, count in dataset.num_classes.items()
        for begins, of in (
            (prefix(labelling), "knn_top1"),
            (prefix(labelling, "linear_"), "probe_top1"),
            (prefix(labelling), "follow"),
        )
    }
    if dataset.clouds:
        chances["principal_component_error"] = math.degrees(1.0)  # of directions that are drawn, of no sign
    notes = beside.notes if beside else ("no baseline: care-jax evaluate RUN --baseline=OTHER puts another run beside",)
    if not experiment.objective.projects:
        notes = (*notes, f"no measures and pictures of embeddings: {UNTRAINED.reason}")
    told = {name: measure for name, measure in measures.items() if name != "config"}  # which has a place of its own
    if dataset.clouds:
        told = {name: _of_clouds(measure) for name, measure in told.items()}
    return report.write_html(
        title,
        subtitle,
        verdict.verdict(summary, told, beside, chances),
        verdict.cards(summary, told, beside, chances),
        notes,
        {name: (summary[name], measure) for name, measure in told.items()},
        pictures,
        leaves(config.to_dict()),
        (beside.name, beside.numbers) if beside and beside.numbers else None,
    )


_IN_WORDS = {r"\bimage files\b": "files", r"\ban image\b": "a cloud", r"\bimage(?=s?\b)": "cloud"}


def _of_clouds(measure: Measure) -> Measure:
    """The same in a report of clouds of points: tables of measures that any input has speak of images."""
    fields = measure._asdict()
    for name in ("meaning", "unit", "chance", "heading"):
        for words, others in _IN_WORDS.items():
            fields[name] = re.sub(words, others, fields[name])
    return Measure(**fields)


def table(numbers: Mapping[str, Any], labellings: Iterable[str], *, clouds: bool = False) -> str:
    """Lines of text: a measure, its value, its spread where it has one, its unit, and which way is better.

    Args:
      numbers: by the names of summary.json.
      labellings: of the data set.
      clouds: whether they are of clouds of points.
    """
    named = evaluators.of_numbers(numbers, labellings)
    if clouds:
        named = {name: _of_clouds(measure) for name, measure in named.items()}
    rows: list[tuple[str, ...]] = [("measure", "value", "spread", "unit", "better")]
    for name, measure in named.items():
        if name.removesuffix("_spread") in named and name.endswith("_spread"):
            continue
        values = [_rounded(numbers[key], measure) if key in numbers else "" for key in (name, f"{name}_spread")]
        rows.append((name, *values, measure.unit, measure.better))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 2) else cell.ljust(width) for column, (cell, width) in cells
        ).rstrip()
        for cells in (enumerate(zip(row, widths, strict=True)) for row in rows)
    )


def _rounded(value: Any, measure: Measure) -> str:
    if value is None:
        return "-"
    return f"{value:.{measure.decimals}f}" if isinstance(value, float) else f"{value:,}"
