"""Rankings with intervals: which ranks each row of a table may have, by what its seeds can tell apart.

Tukey's test takes the spread over seeds to be one for all rows. Ratios of several orders of magnitude have no such
spread: what the seeds of a row differ by is a share of its mean. So they are ranked by their logarithm, where none of
them is 0 or below, and their panel has a logarithmic axis. Of every measure whose seeds spread further in some rows
than in others, beyond what chance does to so few of them (Bartlett's test), a line below the ranks says so: pooled, the
noise of the one hides what differs in the other.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import bartlett, tukey_hsd

from care_jax.evaluate import plots
from care_jax.evaluate.evaluators import find
from care_jax.sweep.table import Results, Table

CONFIDENCE = 0.95
LOGARITHMIC = "relative_equivariance"  # how the names of measures begin that are of several orders of magnitude
_ACROSS = 4  # panels of the picture


class Ranking(NamedTuple):
    """Of one measure.

    Attributes:
      means: row -> mean over its seeds, the best row first.
      half_widths: row -> half of an interval, such that rows differ beyond the noise where, by about that, theirs part.
      ranks: row -> (best, worst) rank that it may have: 1 + the rows that are better than it beyond the noise, and as
        many below the last as it is better than.
      within_noise: pairs of rows whose difference is within the noise.
      pairs: of all rows.
      spreads: row -> standard deviation over its seeds.
      alike: how probable spreads as unlike as these are where all rows have one; 1 where no row has any.
      logarithmic: whether all this is of the logarithms, to base 10.
      at_most_0: rows with a value that has no logarithm, where one was asked for.
    """

    means: dict[str, float]
    half_widths: dict[str, float]
    ranks: dict[str, tuple[int, int]]
    within_noise: list[tuple[str, str]]
    pairs: int
    spreads: dict[str, float]
    alike: float = 1.0
    logarithmic: bool = False
    at_most_0: tuple[str, ...] = ()


def ranking(values: Mapping[str, np.ndarray], better: str) -> Ranking:
    """Ranks by Tukey's honestly significant differences: all pairs at once are right with a confidence of 95 %.

    It takes the spread over seeds to be one for all rows, which pools the few that each has.

    Args:
      values: row -> a finite number a seed, two or more.
      better: "higher" or "lower".

    Raises:
      ValueError: fewer than two rows, or a row of one seed.
    """
    if len(values) < 2 or min(map(len, values.values())) < 2:
        raise ValueError("a ranking needs two rows or more, and two seeds or more of each")
    sign = -1.0 if better == "lower" else 1.0
    rows = sorted(values, key=lambda row: -sign * float(values[row].mean()))
    groups = [np.asarray(values[row], np.float64) for row in rows]
    if all(np.ptp(group) == 0.0 for group in groups):  # no spread at all: what differs, differs
        low = np.subtract.outer([group.mean() for group in groups], [group.mean() for group in groups])
        high = low
    else:
        interval = tukey_hsd(*groups).confidence_interval(CONFIDENCE)
        low, high = interval.low, interval.high
    apart = (low > 0) | (high < 0)
    np.fill_diagonal(apart, False)
    ranks = {
        row: (1 + int(apart[place, :place].sum()), len(rows) - int(apart[place, place + 1 :].sum()))
        for place, row in enumerate(rows)
    }
    noise = [(rows[i], rows[j]) for i in range(len(rows)) for j in range(i + 1, len(rows)) if not apart[i, j]]
    widths = (np.asarray(high) - np.asarray(low)) / 2.0
    np.fill_diagonal(widths, np.nan)
    # Of equal numbers of seeds all pairs have one width, and a quarter of the interval on either side of a mean is it.
    half = {row: float(np.nanmean(widths[place])) / 2.0 for place, row in enumerate(rows)}
    means = {row: float(group.mean()) for row, group in zip(rows, groups, strict=True)}
    spreads = {row: float(group.std(ddof=1)) for row, group in zip(rows, groups, strict=True)}
    return Ranking(means, half, ranks, noise, len(rows) * (len(rows) - 1) // 2, spreads, _alike(groups))


def _alike(groups: Sequence[np.ndarray]) -> float:
    varying = [group for group in groups if np.ptp(group) > 0.0]  # without any spread there is no logarithm of it
    return float(bartlett(*varying).pvalue) if len(varying) > 1 else 1.0


def ranking_of_ratios(values: Mapping[str, np.ndarray], better: str) -> Ranking:
    """`ranking` of the logarithms; of the values as they are where one is 0 or below. Arguments and errors as there."""
    at_most_0 = tuple(row for row, of_row in values.items() if min(of_row) <= 0.0)
    if at_most_0:
        return ranking(values, better)._replace(at_most_0=at_most_0)
    return ranking({row: np.log10(of_row) for row, of_row in values.items()}, better)._replace(logarithmic=True)


def rankings(table: Table, results: Results, measures: Mapping[str, str]) -> dict[str, Ranking]:
    """Of each measure, of the rows of which every seed has it; those that fewer than two rows have are left out.

    Args:
      table: its rows.
      results: of all of them.
      measures: name -> "higher" or "lower", whichever is better.
    """
    found = {}
    for name, better in measures.items():
        known = {}
        for row in table.rows:
            values = np.asarray([summary.get(name) for summary in results[row]], np.float64)
            if len(values) > 1 and np.isfinite(values).all():
                known[row] = values
        if len(known) > 1:
            found[name] = (ranking_of_ratios if name.startswith(LOGARITHMIC) else ranking)(known, better)
    return found


def markdown(table: Table, found: Mapping[str, Ranking]) -> str:
    """A line a row: of each measure the ranks that it may have; and below what the noise hides."""
    if not found:
        return "No ranking: it needs two seeds or more of two rows or more."
    headings = [*table.headings, *(find(name).heading or name for name in found)]
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for row, of in table.rows.items():
        cells = [_ranks(ranked.ranks[row]) if row in ranked.ranks else "–" for ranked in found.values()]
        lines.append(f"| {' | '.join([*of.labels, *cells])} |")
    lines += [
        "",
        f"Ranks that the seeds leave open, of {len(table.rows)} rows (Tukey, {CONFIDENCE:.0%} for all pairs):",
    ]
    for name, ranked in found.items():
        hidden = f"{len(ranked.within_noise)} of {ranked.pairs} differences are within the noise"
        lines.append(f"* {find(name).heading or name}: {hidden}{_told(ranked)}")
    level = (1.0 - CONFIDENCE) / len(found)
    unlike = [f"{find(name).heading or name} ({_spreads(of)})" for name, of in found.items() if of.alike < level]
    if unlike:
        lines += [
            "",
            f"The seeds' standard deviations differ between rows beyond chance (Bartlett, {CONFIDENCE:.0%} for all "
            f"measures); pooled, they are too wide for some and too narrow for others: {'; '.join(unlike)}.",
        ]
    return "\n".join(lines)


def _told(ranked: Ranking) -> str:
    if ranked.at_most_0:
        return f" (not by the logarithm, for {', '.join(ranked.at_most_0)} is 0 or below)"
    return " (by the logarithm)" if ranked.logarithmic else ""


def _spreads(ranked: Ranking) -> str:
    """The least and the largest standard deviation."""
    least, largest = (pick(ranked.spreads, key=lambda row: ranked.spreads[row]) for pick in (min, max))
    low, high = (f"{ranked.spreads[row]:.2g} of {row}" for row in (least, largest))
    return f"{low} to {high}{', of the logarithm' if ranked.logarithmic else ''}"


def _ranks(of: tuple[int, int]) -> str:
    """A rank, or the first and the last.

    >>> _ranks((1, 4)), _ranks((2, 2))
    ('1–4', '2')
    """
    return f"{of[0]}–{of[1]}" if of[0] != of[1] else f"{of[0]}"


def picture(table: Table, found: Mapping[str, Ranking]) -> Figure:
    """A panel a measure: mean of each row with its interval; those that do not overlap differ beyond the noise.

    Where ranks are of logarithms the axis is logarithmic, and the mean the geometric one.
    """
    rows = list(table.rows)
    columns = min(max(len(found), 1), _ACROSS)
    lines = -(-max(len(found), 1) // columns)
    figure, axes = plots.panels(lines, columns, 2.7, 0.8 + 0.24 * len(rows))
    places_of = [axis for line in axes for axis in line]
    for axis, (name, ranked) in zip(places_of, found.items(), strict=False):
        places = [rows.index(row) for row in ranked.means]
        means = np.asarray(list(ranked.means.values()))
        widths = np.nan_to_num([ranked.half_widths[row] for row in ranked.means], posinf=0.0)
        low, high = means - widths, means + widths
        if ranked.logarithmic:
            low, means, high = (10.0**ends for ends in (low, means, high))
            axis.set_xscale("log")
        axis.errorbar(means, places, xerr=(means - low, high - means), fmt="o", color=plots.BLUE, markersize=4)
        measure = find(name)
        unit = f", {measure.unit}" if measure.unit else ""
        axis.set(xlabel=textwrap.fill(f"{measure.heading or name}{unit}", 22), ylim=(len(rows) - 0.5, -0.5))
    for axis in places_of[len(found) :]:
        axis.remove()
    for line in axes:
        line[0].set_yticks(range(len(rows)), [" ".join(row.labels) for row in table.rows.values()])
    return figure


def score(summary: Mapping[str, object], measures: Sequence[str]) -> float:
    """The mean of measures of one run; NaN where one was not taken."""
    return float(
        np.mean([math.nan if (found := summary.get(name)) is None else float(str(found)) for name in measures])
    )
