"""What an analysis of finished runs makes: a table of means over seeds, verdicts, a picture and a JSON file."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure

from care_jax.command_line import parse_flags, say, user_errors
from care_jax.devices import compilation_cache, cores
from care_jax.evaluate import plots
from care_jax.evaluate.measure import Measure
from care_jax.storage import folder_for, local_path, replace_file, writing_to
from care_jax.sweep.table import within_spread
from care_jax.sweep.tables import left_out
from experiments.finished import FinishedTable

Numbers = Mapping[str, Mapping[str, Mapping[str, float]]]  # row -> seed -> measure -> number; NaN: not measured
_ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


class Analysis(NamedTuple):
    """What an experiment found.

    Attributes:
      measures: the columns of its table.
      numbers: of each run.
      compared: the measures that the verdicts are about.
      figure: the picture.
      details: further numbers, for the JSON file.
      said: further lines below the table.
    """

    measures: Mapping[str, Measure]
    numbers: Numbers
    compared: tuple[str, ...]
    figure: Figure
    details: Mapping[str, Any] = {}
    said: tuple[str, ...] = ()


def colours(rows: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of each row a colour and a marker."""
    return {row: look for row, *look in zip(rows, plots.PALETTE, plots.MARKERS, strict=False)}  # type: ignore[misc]


def values(numbers: Numbers, row: str, name: str) -> np.ndarray:
    """A number a seed, float64; NaN where it was not measured."""
    return np.asarray([of_seed.get(name, math.nan) for of_seed in numbers[row].values()], np.float64)


def cell(found: np.ndarray, decimals: int) -> str:
    """Mean ± standard deviation over seeds; a dash where one of them was not measured.

    >>> cell(np.array([1.0, 2.0]), 2), cell(np.array([1.0]), 1), cell(np.array([1.0, np.nan]), 1)
    ('1.50 ± 0.71', '1.0', '–')
    """
    if np.isnan(found).any():
        return "–"
    spread = f" ± {found.std(ddof=1):.{decimals}f}" if len(found) > 1 else ""
    return f"{found.mean():.{decimals}f}{spread}"


def markdown(measures: Mapping[str, Measure], numbers: Numbers) -> str:
    """A line a row: its seeds, and of each measure mean and standard deviation over them."""
    headings = [
        f"{measure.heading or name}{f' ({measure.unit})' if measure.unit else ''}{_ARROWS[measure.better]}"
        for name, measure in measures.items()
    ]
    lines = [f"| {' | '.join(['row', 'n', *headings])} |", "|" + "---|" * (len(headings) + 2)]
    for row in numbers:
        cells = [cell(values(numbers, row, name), measure.decimals) for name, measure in measures.items()]
        lines.append(f"| {' | '.join([row, str(len(numbers[row])), *cells])} |")
    return "\n".join(lines)


def judged(ours: np.ndarray, theirs: np.ndarray, better: str) -> str:
    """What the seeds' spread makes of a difference.

    Args:
      ours, theirs: a number a seed.
      better: "higher", "lower", or empty where neither is.

    >>> judged(np.array([3.0, 3.1]), np.array([1.0, 1.1]), "lower")
    'worse, beyond the spread of the seeds'
    """
    difference = ours.mean() - theirs.mean()
    if math.isnan(difference):
        return "not measured in every run"
    if not difference:
        return "the same"
    direction = "higher" if difference > 0 else "lower"
    word = {"": direction, direction: "better"}.get(better, "worse")
    if min(len(ours), len(theirs)) < 2:
        return f"{word} (a single seed tells no spread)"
    return f"{word}, {'not ' if within_spread(ours, theirs) else ''}beyond the spread of the seeds"


def verdicts(measures: Mapping[str, Measure], compared: Sequence[str], numbers: Numbers, against: str) -> list[str]:
    """A sentence a row that is compared with `against`."""
    lines = []
    for row in numbers:
        if row == against or against not in numbers:
            continue
        said = []
        for name in compared:
            measure, ours, theirs = measures[name], values(numbers, row, name), values(numbers, against, name)
            figures = f"{cell(ours, measure.decimals)} against {cell(theirs, measure.decimals)}"
            unit = f" {measure.unit}" if measure.unit else ""
            said.append(f"{measure.heading or name} {figures}{unit}, {judged(ours, theirs, measure.better)}")
        lines.append(f"{row} against {against}: {'; '.join(said)}.")
    return lines


def start(name: str, analyse: Callable[[FinishedTable], Analysis], *, workdir: str = "runs/care_vs_simclr") -> None:
    """Runs an experiment, whose module has defined flags of its own before.

    Args:
      name: of its files.
      analyse: the runs -> what is found.
      workdir: of the table by default.
    """
    flags.DEFINE_string("workdir", workdir, "Folder of a table's finished runs, ROW_seed_N each.")
    flags.DEFINE_string("out", "", f"Folder for {name}.json and {name}.png; nothing: --workdir.")
    flags.DEFINE_string("against", "", "The row that others are compared with; nothing: that of plain SimCLR.")
    flags.DEFINE_list("only", [], "Rows to take, by the names of their folders, a,b for instance; nothing: all.")
    flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for later runs.")
    given = flags.FLAGS

    def main(argv: list[str]) -> None:
        del argv
        logging.set_verbosity(logging.ERROR)
        with user_errors():
            compilation_cache.switch_on(given.compilation_cache, warn=say)
            cores.share_out()
            place = local_path(given.workdir, "--workdir")
            table = FinishedTable(place, given.against, given.only)
            out = local_path(given.out, "--out") if given.out else place
            with folder_for(out, (f"{name}.json", f"{name}.png"), "--out"):
                found = analyse(table)
                lines = verdicts(found.measures, found.compared, found.numbers, table.against)
                now = _seeds(found.numbers)
                if gone := left_out(out / f"{name}.json", lambda before: _seeds(before["numbers"]), now):
                    say(f"{out}: {name}.json and {name}.png are written {gone}")
                with writing_to(out, "--out"):
                    replace_file(out / f"{name}.json", as_json(name, table, found, [*lines, *found.said]))
                    replace_file(out / f"{name}.png", plots.png(found.figure))
            print("\n\n".join([markdown(found.measures, found.numbers), *lines, *found.said]), flush=True)

    app.run(main, flags_parser=lambda argv: parse_flags(argv, f"--workdir={workdir}"))


def _seeds(numbers: Numbers) -> dict[str, int]:
    return {row: len(of_seeds) for row, of_seeds in numbers.items()}


def as_json(name: str, table: FinishedTable, found: Analysis, said: Sequence[str]) -> str:
    """All numbers, and what they are of; null where there is none."""
    summary = {
        row: {
            measure: {"mean": of.mean(), "std": of.std(ddof=1) if len(of) > 1 else None, "n": len(of)}
            for measure in found.measures
            if len(of := values(found.numbers, row, measure))
        }
        for row in found.numbers
    }
    content = {
        "experiment": name,
        "workdir": str(table.workdir),
        "against": table.against,
        "runs": table.used,
        "measures": {key: measure._asdict() for key, measure in found.measures.items()},
        "summary": summary,
        "numbers": found.numbers,
        "details": found.details,
        "said": said,
    }
    return json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(of) for key, of in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(of) for of in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
