"""The course of a sweep: runs are made, a failed one ends none of the others, and the table grows with each."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from care_jax.command_line import UsageError, say
from care_jax.compare import fairness, groups, runs, table
from care_jax.compare.comparison import Comparison
from care_jax.compare.groups import Group
from care_jax.compare.runs import FoundRun
from care_jax.experiment.config import leaves
from care_jax.storage import replace_file
from care_jax.sweep import plan as plans
from care_jax.sweep import processes
from care_jax.sweep.plan import Plan
from care_jax.sweep.processes import Share
from care_jax.sweep.runs import Run
from care_jax.train.metric_writer import read_metrics
from care_jax.workdir import hold, plain

_WORD = 60.0  # seconds between lines on the runs that are going on
_PAGE = 30.0  # seconds between pages; the last one is always made


def run(plan: Plan, shares: Sequence[Share]) -> tuple[str, dict[Path, str]]:
    """Makes the runs that are missing, and after each the table of all: `sweep.md`, `sweep.json`, `compare.html`.

    Args:
      plan: of the sweep.
      shares: of the machine, one a run at a time.

    Returns:
      The table, in Markdown; and the folders of the runs that failed, with a line each.

    Raises:
      WorkdirError: another process sweeps in the folder, or it can't be written.
    """
    with hold(plan.workdir, warn=say):
        course = Course(plan, len(shares))
        course.write(page=False)
        say(plan.describe() + ("" if plan.missing else ": nothing is left to make"))
        with closing(processes.make(plan.missing, shares, course.watch)) as ended:
            for one in ended:
                course.note(one)
        return course.write(), course.failed


def told(plan: Plan, failed: Mapping[Path, str]) -> str:
    """A line on the runs that failed."""
    folder, problem = next(iter(failed.items()))
    count = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
    first = "" if len(failed) == 1 else ", the first"
    return (
        f"{count} of {len(plan.all)} failed{first}: {folder}: {problem}; the table has the others, the same "
        "command tries again what failed"
    )


class Course:
    """How far a sweep is.

    Args:
      plan: of it.
      jobs: runs at a time.
    """

    def __init__(self, plan: Plan, jobs: int):
        self.failed: dict[Path, str] = {}  # folder -> the run's own line
        self._plan, self._jobs = plan, jobs
        self._done = set(plan.finished)
        self._took: list[float] = []
        self._told = self._drawn = time.monotonic()

    def note(self, ended: processes.Ended) -> None:
        """A run has ended: says how far the sweep is, and writes its table."""
        self._took.append(ended.seconds)
        name = ended.run.workdir.relative_to(self._plan.workdir)
        if ended.problem:
            self.failed[ended.run.workdir] = ended.problem
            say(f"{name} failed: {ended.problem}")
        else:
            self._done.add(ended.run.workdir)
        late = time.monotonic() - self._drawn > _PAGE
        self.write(page=late)
        self._told = time.monotonic()
        say(f"{self.progress()}; {self._plan.workdir / 'sweep.md'} has the table so far")

    def watch(self, going: Sequence[Run]) -> None:
        """Now and then a word on the runs that are going on."""
        if time.monotonic() - self._told < _WORD or not going:
            return
        self._told = time.monotonic()
        say(f"{self.progress()}; going on: {', '.join(self._at(run) for run in going)}")

    def _at(self, run: Run) -> str:
        try:
            rows = read_metrics(run.workdir)
        except OSError:
            rows = []
        name, of = run.workdir.relative_to(self._plan.workdir), run.config.train.num_steps
        if not rows:
            return f"{name} before its first row"
        step = rows[-1]["step"]
        return f"{name} in its evaluation" if step == of else f"{name} at step {step:,}{f' of {of:,}' if of else ''}"

    def progress(self) -> str:
        """How many runs are finished, and about how long the others take, by those that this process made."""
        total, left = len(self._plan.all), len(self._plan.all) - len(self._done) - len(self.failed)
        line = f"{len(self._done)} of {total} runs are finished"
        if self.failed:
            line += f", {len(self.failed)} failed"
        if left and self._took:
            seconds = float(np.mean(self._took)) * -(-left // self._jobs)
            line += f", about {f'{seconds / 60:.0f} min' if seconds > 90 else f'{seconds:.0f} s'} left"
        return line

    def write(self, *, page: bool = True) -> str:
        """Writes what there is so far; the table, in Markdown."""
        comparison = self.comparison()
        names = table.chosen(comparison.groups, ())
        text = table.markdown(comparison.groups, {}, names, comparison.fairness)
        text += "\n" if self.failed else ""
        for folder, problem in self.failed.items():
            text += f"\n* {folder.relative_to(self._plan.workdir)} failed: {problem}"
        workdir = self._plan.workdir
        replace_file(workdir / "sweep.md", text + "\n")
        replace_file(workdir / plans.FILE, json.dumps(self._record(comparison.groups), indent=2) + "\n")
        if page:
            replace_file(workdir / "compare.html", comparison.page(workdir))
            self._drawn = time.monotonic()
        return text

    def comparison(self) -> Comparison:
        """A group for each combination, with all its seeds, begun or not."""
        found, notes = [], [f"{folder} failed: {problem}" for folder, problem in self.failed.items()]
        for of_seeds in self._plan.runs:
            folder = of_seeds[0].workdir.parent
            name = folder.name if self._plan.grid else "all"
            found.append(Group(name, tuple(self._found(run) for run in of_seeds)))
        notes += [note for one in found for run in one.runs if run.step for note in run.notes]
        differing = groups.differing(found)
        return Comparison(found, differing, fairness.judge(found, differing), tuple(notes))

    def _found(self, run: Run) -> FoundRun:
        """What there is of a run; its settings at least."""
        try:
            found = runs.read(run.workdir)
        except UsageError:
            settings = {name: list(x) if isinstance(x, tuple) else x for name, x in leaves(plain(run.config)).items()}
            found = FoundRun(run.workdir, settings, None, [], None)
        return found._replace(failed=run.workdir in self.failed)

    def _record(self, found: Sequence[Group]) -> dict[str, Any]:
        plan = self._plan
        made = [
            {
                "folder": str(run.workdir.relative_to(plan.workdir)),
                "set": plans.combination(plan, of_seeds),
                "seed": run.config.seed,
                "state": self._state(run),
                "problem": self.failed.get(run.workdir, ""),
            }
            for of_seeds in plan.runs
            for run in of_seeds
        ]
        rows = [
            {"set": plans.combination(plan, of_seeds), "measures": _measures(one)}
            for of_seeds, one in zip(plan.runs, found, strict=True)
        ]
        return {**plans.record(plan), "runs": made, "table": rows}

    def _state(self, run: Run) -> str:
        if run.workdir in self._done:
            return "finished"
        return "failed" if run.workdir in self.failed else "not finished"


def _measures(one: Group) -> Mapping[str, Any]:
    """Mean, standard deviation and number of seeds of every measure."""
    found = {}
    for name in table.measures_of([one]):
        values = one.values(name)
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        found[name] = {"mean": float(values.mean()), "spread": spread, "n": len(values)}
    return found
