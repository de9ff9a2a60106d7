"""A table of an experiment: its rows, columns and comparisons as data, and how they are written."""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from care_jax.command_line import UsageError
from care_jax.evaluate.evaluators import find
from care_jax.experiment.settings import only_of

Summary = Mapping[str, Any]
Results = Mapping[str, Sequence[Summary]]  # a row's name -> summaries, one a seed

_ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


class Row(NamedTuple):
    """One configuration.

    Attributes:
      labels: what tells it apart, one a heading of the table.
      settings: dotted name -> value, where it differs from the configuration of all rows.
      against: the row that it is compared with in words; empty for none.
    """

    labels: tuple[str, ...]
    settings: Mapping[str, Any]
    against: str = ""


class Table(NamedTuple):
    """What an experiment runs and shows.

    Attributes:
      headings: of the rows' labels.
      rows: by the names of their folders, to which `_seed_0` and so on are added.
      columns: measures (docs/measures.md), by the names of summary.json.
      compared: the measures that the comparisons are about.
    """

    headings: tuple[str, ...]
    rows: Mapping[str, Row]
    columns: tuple[str, ...]
    compared: tuple[str, ...]


def configured(config: ml_collections.ConfigDict, settings: Mapping[str, Any], seed: int) -> ml_collections.ConfigDict:
    """The configuration of one run; the one given stays as it is.

    Raises:
      UsageError: a setting of images for a configuration of clouds, or the other way round.
    """
    config = copy.deepcopy(config)  # ConfigDict(config) would share its sections
    config.seed = seed
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        values = config[section] if section else config
        if key not in values and (kind := only_of(name)):
            raise UsageError(f"this table sets {name}, a setting of {kind} alone: give a configuration of {kind}")
        with values.ignore_type():  # what does not fit is for the check of all settings to say
            values[key] = value
    return config


def markdown(table: Table, results: Results) -> str:
    """A line a row: number of training seeds, mean and standard deviation over them; then the comparisons.

    A measure that one of the seeds does not have is a dash.
    """
    headings = [*table.headings, "n", *map(_heading, table.columns)]
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for name, summaries in results.items():
        count = f"{len(summaries)}"
        cells = [*table.rows[name].labels, count, *(_cell(summaries, column) for column in table.columns)]
        lines.append(f"| {' | '.join(cells)} |")
    if said := comparisons(table, results):
        lines += ["", *said]
    return "\n".join(lines)


def as_json(table: Table, results: Results) -> str:
    """All that the table is made of, in JSON: its rows with their settings, and of each run what the columns show.

    A number that a run does not have is null.
    """
    shown = (*table.columns, "steps", "params_sha256")
    rows = {
        name: {
            "labels": dict(zip(table.headings, table.rows[name].labels, strict=True)),
            "settings": dict(table.rows[name].settings),
            "against": table.rows[name].against,
            "runs": [{column: _finite(summary.get(column)) for column in shown} for summary in summaries],
        }
        for name, summaries in results.items()
    }
    measures = {column: find(column)._asdict() for column in table.columns}
    return json.dumps({"measures": measures, "rows": rows}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def comparisons(table: Table, results: Results) -> list[str]:
    """A sentence a row that is compared with another, with the figures and what the seeds' spread makes of them."""
    lines = []
    for name, summaries in results.items():
        against = table.rows[name].against
        if against in results:
            said = [_compared(column, summaries, results[against]) for column in table.compared]
            lines.append(f"{name} against {against}: {'; '.join(said)}.")
    return lines


def within_spread(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the means of two rows differ by no more than their seeds' standard deviations together.

    Args:
      one, other: a number a seed, two or more each.
    """
    return bool(abs(one.mean() - other.mean()) <= one.std(ddof=1) + other.std(ddof=1))


def _compared(column: str, ours: Sequence[Summary], theirs: Sequence[Summary]) -> str:
    measure = find(column)
    unit = f" {measure.unit}" if measure.unit else ""
    figures = f"{measure.heading} {_cell(ours, column)} against {_cell(theirs, column)}{unit}"
    one, other = _values(ours, column), _values(theirs, column)
    difference = one.mean() - other.mean()
    if math.isnan(difference):
        return f"{figures}, not measured in every run"
    direction = "higher" if difference > 0 else "lower"
    judged = {"": direction, direction: "better"}.get(measure.better, "worse") if difference else "the same"
    if min(len(one), len(other)) < 2:
        return f"{figures}, {judged} (a single seed tells no spread)"
    if difference and within_spread(one, other):
        return f"{figures}, {judged} by less than the seeds' standard deviations"
    return f"{figures}, {judged}"


def _heading(column: str) -> str:
    measure = find(column)
    return f"{measure.heading or column}{f' ({measure.unit})' if measure.unit else ''}{_ARROWS[measure.better]}"


def _cell(summaries: Sequence[Summary], column: str) -> str:
    values, decimals = _values(summaries, column), find(column).decimals
    if np.isnan(values).any():
        return "–"
    spread = f" ± {values.std(ddof=1):.{decimals}f}" if len(values) > 1 else ""
    return f"{values.mean():.{decimals}f}{spread}"


def _values(summaries: Sequence[Summary], column: str) -> np.ndarray:
    """One a seed, float64; NaN where it could not be measured."""
    return np.asarray([summary.get(column) for summary in summaries], np.float64)
