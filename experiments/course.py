"""What training does to equivariance (the paper's figure 8), from the monitors of a table; and at equal accuracy.

    python -m experiments.care_vs_simclr --config.train.evaluate_every_epochs=5.0 --workdir=runs/course \
--config.evaluate.monitor=knn,motion,equivariance,alignment
    python -m experiments.course                                            # of runs/course
    python -m experiments.course --levels=80,85,90 --accuracy=knn_top1

    python -m experiments.proteins --config.train.evaluate_every_epochs=5.0 --workdir=runs/proteins_course \
--config.evaluate.monitor=clouds,motion,equivariance
    python -m experiments.course --workdir=runs/proteins_course --accuracy=principal_component_error

At equal steps runs that learn at other speeds are compared, and runs that lose on the way what others keep: so each run
is also taken at the first row of its metrics.jsonl that reaches a level of accuracy. Rows that lack one of the measures
do not count. The table (of the last rows), and one of the levels, go to standard output, all numbers to `course.json`,
curves, mean and standard deviation over seeds, to `course.png`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from care_jax.command_line import UsageError, say
from care_jax.evaluate import plots
from care_jax.evaluate.evaluators import find
from care_jax.evaluate.measure import Measure
from care_jax.train.metric_writer import read_metrics
from experiments import analysis, command, unlike
from experiments.analysis import Analysis, Numbers
from experiments.finished import FinishedTable, check_steps
from experiments.ranking import LOGARITHMIC

NAMES = (
    "relative_equivariance_median",
    "rotation_share_explained",
    "alignment",
    "knn_top1",
    "linear_probe_top1",
    "hue_knn_top1",
    "principal_component_error",
)
COMPARED = ("rotation_share_explained", "relative_equivariance_median", "hue_knn_top1")  # at a level, where there
_LEVELS = 3  # where none are given

Course = dict[int, dict[str, float]]  # step -> measure -> number
Courses = Mapping[str, Mapping[str, Course]]  # row -> seed -> course


def measure_of(name: str) -> Measure:
    """The measure of that name.

    Raises:
      UsageError: there is none.
    """
    try:
        return find(name)
    except KeyError:
        raise UsageError(f"{name} is no measure; docs/measures.md names them") from None


def joined(rows: Iterable[Mapping[str, float]], names: Sequence[str]) -> Course:
    """The steps of which some of the measures are known, in order; the later of two numbers of one step."""
    found: Course = {}
    for row in rows:
        known = {name: float(row[name]) for name in names if name in row}
        if known:
            found.setdefault(int(row["step"]), {}).update(known)
    return dict(sorted(found.items()))


def whole(course: Course, names: Sequence[str]) -> Course:
    """The steps of a course of which all of the measures are known."""
    return {step: known for step, known in course.items() if all(name in known for name in names)}


def first_at(course: Course, name: str, level: float) -> int | None:
    """The first step of which a measure is as good as a level; None if it never is."""
    sign = _sign(name)
    return next((step for step, known in course.items() if sign * known[name] >= sign * level), None)


def levels_of(courses: Courses, name: str) -> list[float]:
    """Up to three levels of a measure that every run reaches: the best such, and two below it, none that all begin at.

    Args:
      courses: no run without a step.
      name: of the measure.
    """
    sign, scale = _sign(name), 10.0 ** measure_of(name).decimals
    runs = [
        [sign * known[name] for known in course.values()] for seeds in courses.values() for course in seeds.values()
    ]
    top, bottom = min(map(max, runs)), max(run[0] for run in runs)
    some = np.linspace(bottom, top, _LEVELS + 1)[1:] if bottom < top else [top]
    return [sign * level for level in dict.fromkeys(math.floor(scale * score + 1e-9) / scale for score in some)]


def _sign(name: str) -> float:
    return -1.0 if measure_of(name).better == "lower" else 1.0


def at_level(courses: Courses, accuracy: str, level: float) -> tuple[Numbers, dict[str, int]]:
    """Of each run the numbers of the first step that reaches a level, "step" among them; of each row how many don't.

    A row of which one seed does not reach it has no numbers.
    """
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    short: dict[str, int] = {}
    for row, seeds in courses.items():
        steps = {seed: first_at(course, accuracy, level) for seed, course in seeds.items()}
        if missing := sum(step is None for step in steps.values()):
            short[row] = missing
        else:
            numbers[row] = {
                seed: {"step": float(step), **seeds[seed][step]} for seed, step in steps.items() if step is not None
            }
    return numbers, short


def picture(courses: Courses, names: Sequence[str]) -> Figure:
    """A panel a measure over the steps: the mean over the seeds, and a band of their standard deviation."""
    figure, axes = plots.panels(len(names), 1, 5.0, 1.9, share_x="col")
    looks = analysis.colours(list(courses))
    for (axis,), name in zip(axes, names, strict=True):
        for row, seeds in courses.items():
            runs = [{step: known[name] for step, known in course.items() if name in known} for course in seeds.values()]
            steps = sorted(set.intersection(*(set(run) for run in runs)))
            if not steps:
                continue
            curves = np.asarray([[run[step] for step in steps] for run in runs])
            mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1) if len(curves) > 1 else 0.0
            low = mean - spread
            if name.startswith(LOGARITHMIC):  # which a negative end of the band has no place on
                low = np.maximum(low, curves.min(axis=0))
            axis.fill_between(steps, low, mean + spread, color=looks[row][0], alpha=0.2, linewidth=0)
            axis.plot(steps, mean, color=looks[row][0], marker=looks[row][1], markersize=3, label=row)
        if name.startswith(LOGARITHMIC):
            axis.set_yscale("log")
        measure = find(name)
        axis.set_ylabel("\n".join(_wrapped(", ".join(filter(None, (measure.heading or name, measure.unit))))))
    axes[-1][0].set_xlabel("step")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _wrapped(text: str) -> list[str]:
    first, space, rest = text[:14].rpartition(" ") if len(text) > 22 else (text, "", "")
    return [first, (rest + text[14:]).strip()] if space else [text]


def courses_of(table: FinishedTable, names: Sequence[str]) -> dict[str, dict[str, Course]]:
    """The monitors of every run; notes of each what it is, and says what makes them unlike.

    Raises:
      UsageError: a run without any of the measures, or on other data than the first.
    """
    found: dict[str, dict[str, Course]] = {}
    first: tuple[Path, int] | None = None
    for line in unlike.told(table.workdir, table.folders, names):
        say(line)
    for row, seeds in table.folders.items():
        for seed, folder in seeds.items():
            summary = _summary(folder)
            first = first or (folder, summary["steps"])
            check_steps(first, (folder, summary["steps"]))
            # A loss that is logged under a measure's name is not that measure.
            method = summary.get("config", {}).get("loss", {}).get("method")
            course = joined(read_metrics(folder, warn=say), [name for name in names if name != method])
            if not course:
                raise UsageError(
                    f"{folder} has none of {', '.join(names)} in its metrics.jsonl; `--help` has the command, "
                    "--only leaves its row out"
                )
            if max(course) != summary["steps"]:
                say(f"{folder}: its monitors end at step {max(course)}, and its summary is of step {summary['steps']}")
            found.setdefault(row, {})[seed] = course
            of = {"step": summary["steps"], "params_sha256": summary["params_sha256"]}
            table.used.append({"row": row, "seed": seed, "folder": str(folder), **of})
    return found


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text())
        if not isinstance(summary, dict) or not {"steps", "params_sha256"} <= summary.keys():
            raise ValueError("it is no summary of a run")
        return summary
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read ({error}): make it again with python -m care_jax.evaluate") from error


def analyse(table: FinishedTable, accuracy: str = "knn_top1", levels: Sequence[float] = ()) -> Analysis:
    """Curves, and what runs of equal accuracy are otherwise.

    Args:
      table: the runs.
      accuracy: a measure.
      levels: of it; none: some that every run reaches.
    """
    measure_of(accuracy)
    courses = courses_of(table, tuple(dict.fromkeys((accuracy, *NAMES))))
    runs = [course for seeds in courses.values() for course in seeds.values()]
    known = [{name for of in run.values() for name in of} for run in runs]
    names = [name for name in dict.fromkeys((*NAMES, accuracy)) if all(name in of for of in known)]
    partly = sorted(set.union(*known) - {*names, accuracy})
    measures = {name: find(name) for name in names}
    full = {row: {seed: whole(course, names) for seed, course in seeds.items()} for row, seeds in courses.items()}
    if any(not course for seeds in full.values() for course in seeds.values()):
        raise UsageError(f"a run has no row of metrics.jsonl with all of {', '.join(names)}: monitor them at one time")
    last = {row: {seed: course[max(course)] for seed, course in seeds.items()} for row, seeds in full.items()}
    said: list[str] = []
    details: dict[str, object] = {"courses": courses}
    if accuracy in names:
        levels = levels or levels_of(full, accuracy)
        found = {level: at_level(full, accuracy, level) for level in levels}
        columns = {"step": find("steps")._replace(heading="step", decimals=0), **measures}
        said = at_equal_accuracy(found, columns, accuracy, table.against)
        details["levels"] = {f"{level:g}": numbers for level, (numbers, _) in found.items()}
    else:
        said = [f"No comparison at equal accuracy: not every run has {accuracy} among its monitors."]
    if partly:
        said.append(f"Left out, for not every run has it among its monitors: {', '.join(partly)}.")
    compared = tuple(name for name in COMPARED if name in names)
    return Analysis(measures, last, compared, picture(courses, names), details, tuple(said))


def at_equal_accuracy(
    found: Mapping[float, tuple[Numbers, Mapping[str, int]]],
    measures: Mapping[str, Measure],
    accuracy: str,
    against: str,
) -> list[str]:
    """A table and sentences a level.

    Args:
      found: level -> what `at_level` returns.
      measures: the columns.
      accuracy: what the levels are of.
      against: the row that others are compared with.
    """
    said, measure = [], measures[accuracy]
    compared = [name for name in COMPARED if name in measures and name != accuracy]
    for level, (numbers, short) in found.items():
        where = f"{measure.heading or accuracy} of {level:g}{f' {measure.unit}' if measure.unit else ''}"
        said.append(f"At the first row with a {where}:")
        if numbers:
            said.append(analysis.markdown(measures, numbers))
        said += [f"{row} is not compared: {count} of its seeds never reach it." for row, count in short.items()]
        said += [f"At a {where}, {line}" for line in analysis.verdicts(measures, compared, numbers, against)]
    return said


if __name__ == "__main__":
    flags.DEFINE_string("accuracy", "knn_top1", "The measure that runs are compared at equal levels of.")
    flags.DEFINE_string("levels", "", "Its levels, by commas; nothing: some that every run reaches.")
    analysis.start(
        "course",
        lambda table: analyse(table, flags.FLAGS.accuracy, command.numbers("--levels", flags.FLAGS.levels)),
        workdir="runs/course",
    )
