"""A comparison: runs by their names on the command line, grouped, judged, as a table and as a page."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from care_jax.command_line import UsageError
from care_jax.compare import fairness, groups, runs, table
from care_jax.compare.fairness import Fairness
from care_jax.compare.groups import Group


class Comparison(NamedTuple):
    """Runs beside each other.

    Attributes:
      groups: of runs that differ in their seed alone.
      differing: the settings in which groups differ -> the value of each.
      fairness: what may be compared.
      notes: lines on what was left out, is damaged or not finished.
    """

    groups: list[Group]
    differing: dict[str, list[Any]]
    fairness: Fairness
    notes: tuple[str, ...]

    def markdown(self, measures: Sequence[str] = ()) -> str:
        """The table: of these measures, or of the headlines.

        Raises:
          UsageError: no run has such a measure.
        """
        return table.markdown(self.groups, self.differing, table.chosen(self.groups, measures), self.fairness)

    def page(self, folder: Path, measures: Sequence[str] = ()) -> str:
        """The page, for a file in `folder`; raises what `markdown` does."""
        from care_jax.compare import page  # matplotlib takes its time

        names = table.chosen(self.groups, measures)
        return page.write(self.groups, self.differing, names, self.fairness, self.notes, folder)


def compare(words: Iterable[str]) -> Comparison:
    """Reads the runs that are named.

    Args:
      words: folders of runs, patterns, or folders that runs lie in.

    Raises:
      UsageError: there are none, or none whose settings can be read.
    """
    workdirs, notes = runs.find(words)
    found = []
    for workdir in workdirs:
        try:
            found.append(runs.read(workdir))
        except UsageError as error:
            notes.append(str(error))
    if not found:
        raise UsageError("; ".join(notes))
    return of_runs(found, notes)


def of_runs(found: Sequence[runs.FoundRun], notes: Iterable[str] = ()) -> Comparison:
    """Compares runs that were read."""
    grouped, said = groups.group(found)
    differing = groups.differing(grouped)
    notes = [*notes, *(note for run in found for note in run.notes), *said]
    unfinished = [f"{run.workdir} (step {run.step})" for run in found if run.summary is None]
    if unfinished:
        notes.append(f"not finished, their curves are shown: {', '.join(unfinished)}")
    for run in found:
        if run.summary is not None and run.step > run.summary["steps"]:
            notes.append(
                f"{run.workdir}: its numbers are of step {run.summary['steps']}, its curves go on to {run.step}"
            )
    if len(grouped) == 1:
        notes.append("one run alone, or seeds of one: there is nothing to compare it with")
    return Comparison(grouped, differing, fairness.judge(grouped, differing), tuple(notes))
