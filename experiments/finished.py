"""What the experiments that analyse a table's finished runs have in common: the runs, the comparison, the files.

A table's folder has a folder ROW_seed_N a run, as `care_jax.sweep.tables` makes them. Runs that have no summary.json
are not finished, and are passed over, which is said. Of what is assumed the same of all runs, the data and the steps
are compared.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure

from care_jax import trained
from care_jax.command_line import UsageError, parse_flags, say, user_errors
from care_jax.data import DataSet
from care_jax.devices import compilation_cache
from care_jax.evaluate import plots
from care_jax.evaluate.embedded import EmbeddedDataSet, make_embedder
from care_jax.evaluate.measure import Measure
from care_jax.experiment import build
from care_jax.experiment.inputs import stored_side
from care_jax.experiment.settings import of_clouds
from care_jax.storage import folder_for, local_path, replace_file, writing_to
from care_jax.sweep.table import within_spread
from care_jax.trained import Trained
from care_jax.workdir import check_data

Numbers = Mapping[str, Mapping[str, Mapping[str, float]]]  # row -> seed -> measure -> number; NaN: not measured
_ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


class Finished(NamedTuple):
    """A run.

    Attributes:
      row: of the table.
      seed: of training.
      model: the run's newest encoder.
      embedded: the run's data set as that encoder sees it.
    """

    row: str
    seed: str
    model: Trained
    embedded: EmbeddedDataSet


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


class FinishedTable:
    """The finished runs of a table.

    Attributes:
      workdir: folder of the table.
      folders: row -> seed -> folder of the run; rows and seeds in order.
      against: the row that others are compared with; empty where there is none.
      used: what `runs` has read: of each run its folder, its step and its parameters' hash.

    Args:
      workdir: as the attribute.
      against: as the attribute; empty for the row of plain SimCLR, if there is one.

    Raises:
      UsageError: no finished run; no such row; several rows of plain SimCLR.
    """

    def __init__(self, workdir: Path, against: str = ""):
        self.workdir = workdir
        self.folders: dict[str, dict[str, Path]] = {}
        for folder in sorted(workdir.glob("*_seed_*"), key=_row_and_seed):
            row, seed = _row_and_seed(folder)
            if not (folder / "summary.json").exists():
                say(f"{folder} has no summary.json: it is not finished, and is passed over")
                continue
            self.folders.setdefault(row, {})[str(seed)] = folder
        if not self.folders:
            raise UsageError(f"no finished run in {workdir}; --workdir is a table's folder, with folders ROW_seed_N")
        if len(self.folders) > len(plots.PALETTE):
            raise UsageError(
                f"{workdir} has {len(self.folders)} rows, more than the {len(plots.PALETTE)} that colours tell apart"
            )
        if against and against not in self.folders:
            raise UsageError(f"--against={against} is no row of {workdir}; there are {', '.join(self.folders)}")
        self.against = against or self._simclr()
        self.used: list[dict[str, Any]] = []

    def _simclr(self) -> str:
        found = []
        for row, of_seeds in self.folders.items():
            config = trained.config_of(next(iter(of_seeds.values())))
            if config.loss.method == "simclr" and not config.equivariance.weight:
                found.append(row)
        if len(found) > 1:
            raise UsageError(f"{self.workdir} has several rows of plain SimCLR: give --against, one of {found}")
        if not found and len(self.folders) > 1:
            say("no row is plain SimCLR, and nothing is compared; --against names the row to compare with")
        return found[0] if found else ""

    def runs(self, *, every_checkpoint: bool = False) -> Iterator[Finished]:
        """Each run with its encoder and data, one in memory at a time.

        Args:
          every_checkpoint: each run once a checkpoint that it has, by their steps, not only with its newest.

        Raises:
          UserError: a checkpoint or the data can't be used, or has changed since; runs of other data sets.
        """
        load_data: Any = cache(lambda key: build.load_data(configs[key]))
        embedders: Any = cache(lambda key: cache(partial(make_embedder, experiments[key])))
        configs: dict[str, Any] = {}
        experiments: dict[str, build.Experiment] = {}
        for row, of_seeds in self.folders.items():
            for seed, folder in of_seeds.items():
                config = trained.config_of(folder)
                side = None if of_clouds(config) else stored_side(config)
                key = json.dumps([config.data.to_dict(), side, config.augment.placement], default=str)
                configs.setdefault(key, config)
                if len(configs) > 1:
                    raise UsageError(f"{folder} is of other data or sizes than the runs before it; analyse them apart")
                dataset: DataSet = load_data(key)
                check_data(folder, dataset)
                experiment = build.build(config, dataset=dataset)
                # Runs of one architecture share what is compiled.
                same = json.dumps([config.model.to_dict(), config.evaluate.batch_size], default=str)
                experiments.setdefault(same, experiment)
                for step in _steps(folder) if every_checkpoint else [""]:
                    model = trained.load(folder, step)
                    embedded = EmbeddedDataSet(experiment, embedders(same), model.encoder_variables)
                    self._note(row, seed, folder, model, compare_steps=not every_checkpoint)
                    yield Finished(row, seed, model, embedded)

    def _note(self, row: str, seed: str, folder: Path, model: Trained, *, compare_steps: bool) -> None:
        if compare_steps and self.used and model.step != self.used[0]["step"]:
            say(f"{folder} is of step {model.step}, {self.used[0]['folder']} of {self.used[0]['step']}: unlike things")
        sha256 = model.info["params_sha256"]
        self.used.append({"row": row, "seed": seed, "folder": str(folder), "step": model.step, "params_sha256": sha256})


def _steps(folder: Path) -> list[str]:
    return sorted((path.name for path in (folder / "checkpoints").iterdir() if path.name.isdigit()), key=int)


def _row_and_seed(folder: Path) -> tuple[str, int]:
    row, _, seed = folder.name.rpartition("_seed_")
    return row, int(seed) if seed.isdecimal() else -1


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
    flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for later runs.")
    given = flags.FLAGS

    def main(argv: list[str]) -> None:
        del argv
        logging.set_verbosity(logging.ERROR)
        with user_errors():
            compilation_cache.switch_on(given.compilation_cache, warn=say)
            place = local_path(given.workdir, "--workdir")
            table = FinishedTable(place, given.against)
            out = local_path(given.out, "--out") if given.out else place
            with folder_for(out, (f"{name}.json", f"{name}.png"), "--out"):
                found = analyse(table)
                lines = verdicts(found.measures, found.compared, found.numbers, table.against)
                with writing_to(out, "--out"):
                    replace_file(out / f"{name}.json", as_json(name, table, found, [*lines, *found.said]))
                    replace_file(out / f"{name}.png", plots.png(found.figure))
            print("\n\n".join([markdown(found.measures, found.numbers), *lines, *found.said]), flush=True)

    app.run(main, flags_parser=lambda argv: parse_flags(argv, f"--workdir={workdir}"))


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
