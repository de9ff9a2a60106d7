"""The table of a comparison: a row a group, mean ± standard deviation over its seeds, each measure's best marked."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from care_jax.command_line import UsageError
from care_jax.compare.fairness import Fairness, measure_of, told
from care_jax.compare.groups import Group
from care_jax.errors import printable
from care_jax.evaluate import evaluators
from care_jax.evaluate.measure import Measure

ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
MOST_COLUMNS = 4  # of settings; more are listed above the table
_SEEDS = "Mean ± standard deviation (number of seeds); bold: the best; ≈: within the seeds' standard deviations of it."
_ONE_SEED = "Bold: the best; single seeds tell no spread."


class Cell(NamedTuple):
    """A measure of a group.

    Attributes:
      text: mean ± standard deviation (n); a dash where there is no number.
      mark: "best", "near" (not told apart from the best by the seeds) or empty.
    """

    text: str
    mark: str = ""

    @property
    def markdown(self) -> str:
        """With its mark."""
        return {"best": f"**{self.text}**", "near": f"{self.text} ≈", "": self.text}[self.mark]


def legend(groups: Sequence[Group]) -> str:
    """What the marks mean."""
    return _SEEDS if any(len(one.runs) > 1 for one in groups) else _ONE_SEED


def measures_of(groups: Sequence[Group]) -> list[str]:
    """The numbers that any of the groups has, in the order of summary.json."""
    found = dict.fromkeys(name for one in groups for run in one.finished for name in run.summary or ())
    return [name for name in found if any(len(one.values(name)) for one in groups)]


def chosen(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """The measures of the table: those that are named, else the headlines.

    Raises:
      UsageError: a name that no run has a number for.
    """
    there = measures_of(groups)
    for name in names:
        if name not in there:
            raise UsageError(f"--measures={name} is in no summary.json here; there are {', '.join(there) or 'none'}")
    usual = [name for name, measure in evaluators.measures(("class",)).items() if measure.headline]
    return list(dict.fromkeys(names)) or [name for name in there if name in usual]


def cells(groups: Sequence[Group], name: str, fairness: Fairness) -> list[Cell]:
    """A measure of every group."""
    measure = measure_of(name)
    values = [one.values(name) for one in groups]
    texts = [_shown(one, x, name) for one, x in zip(groups, values, strict=True)]
    means = [float(x.mean()) if len(x) else math.nan for x in values]
    if not measure.better or not fairness.allows(name) or np.isfinite(means).sum() < 2:
        return [Cell(text) for text in texts]
    best = max(means, key=_key(measure)) if measure.better == "higher" else min(means, key=_key(measure))
    top = means.index(best)
    marks = []
    for mean, x in zip(means, values, strict=True):
        if mean == best:
            marks.append("best")
        else:
            several = len(x) > 1 and len(values[top]) > 1
            near = several and abs(mean - best) <= x.std(ddof=1) + values[top].std(ddof=1)
            marks.append("near" if near else "")
    return [Cell(text, mark) for text, mark in zip(texts, marks, strict=True)]


def _key(measure: Measure) -> Any:
    """NaN is never the best."""
    worst = -math.inf if measure.better == "higher" else math.inf
    return lambda mean: worst if math.isnan(mean) else mean


def _shown(one: Group, values: np.ndarray, name: str) -> str:
    if not len(values):
        return "–"
    counted = all(type(run.summary.get(name)) is int for run in one.finished if run.summary is not None)
    decimals = 0 if counted else measure_of(name).decimals
    spread = f" ± {values.std(ddof=1):.{decimals}f}" if len(values) > 1 else ""
    count = f" ({len(values)})" if len(one.runs) > 1 else ""
    return f"{values.mean():.{decimals}f}{spread}{count}"


def heading(name: str) -> str:
    """Of a measure's column: its name, unit and direction."""
    measure = measure_of(name)
    return f"{measure.heading or name}{f' ({measure.unit})' if measure.unit else ''}{ARROWS[measure.better]}"


def state(one: Group) -> str:
    """How many runs a group has, and whether they are finished."""
    failed = sum(run.failed for run in one.runs)
    if len(one.finished) == len(one.runs):
        return str(len(one.runs))
    if len(one.runs) == 1:
        return "failed" if failed else f"not finished, step {one.runs[0].step}"
    return f"{len(one.finished)} of {len(one.runs)} finished{f', {failed} failed' if failed else ''}"


def rows(
    groups: Sequence[Group], differing: dict[str, list[Any]], names: Sequence[str], fairness: Fairness
) -> list[list[Cell]]:
    """The table, its heading first: name, settings, runs, measures."""
    measured = [cells(groups, name, fairness) for name in names]
    lines = [[Cell(text) for text in ("run", *differing, "runs", *map(heading, names))]]
    for i, one in enumerate(groups):
        settings = [Cell(shown(values[i])) for values in differing.values()]
        lines.append([Cell(one.name), *settings, Cell(state(one)), *(column[i] for column in measured)])
    return lines


def shown(value: Any) -> str:
    """A setting's value."""
    return "(" + ", ".join(map(shown, value)) + ")" if isinstance(value, list) else str(value)


def markdown(groups: Sequence[Group], differing: dict[str, list[Any]], names: Sequence[str], fairness: Fairness) -> str:
    """The table as Markdown in aligned columns; above it what does not compare, and settings, where many differ."""
    listed = len(differing) > MOST_COLUMNS
    lines = [f"* {printable(note)}" for note in fairness.notes]
    if lines:
        lines.append("")
    if listed:
        lines += ["Settings that differ:", ""]
        lines += [f"* `{name}`: {printable(told(groups, list(map(shown, of))))}" for name, of in differing.items()] + [
            ""
        ]
    texts = [
        [printable(cell.markdown).replace("|", "\\|") for cell in row]
        for row in rows(groups, {} if listed else differing, names, fairness)
    ]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    texts.insert(1, ["-" * width for width in widths])
    lines += [f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |" for row in texts]
    return "\n".join([*lines, "", legend(groups)])
