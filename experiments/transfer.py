"""Transfer (a reviewer's question): what encoders are worth on data that they were not trained on; does the share move?

    python -m experiments.care_vs_simclr
    python -m experiments.transfer --on=fashion                             # of runs/care_vs_simclr
    python -m experiments.care_vs_simclr --config=configs/fashion.py --workdir=runs/fashion_table
    python -m experiments.transfer --workdir=runs/fashion_table --on=digits
    python -m experiments.transfer --on=my_images                           # a folder of images

Every finished run of the table is judged on the other data set as `care-jax evaluate RUN --on` does it: the encoder is
frozen, neighbours and probes are fitted on that set's training images, the draws are from the run's ranges. Beside them
stands each seed's encoder as it was before its first step (`untrained`), for a share that random weights have too is
none that transferred. The table goes to standard output, all numbers to `transfer.json`, the shares on both sets to
`transfer.png`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import json
import math
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from care_jax import pretrained, trained
from care_jax.command_line import UsageError, say
from care_jax.evaluate import evaluation, plots
from care_jax.evaluate.embedded import EmbeddedDataSet, make_embedder
from care_jax.evaluate.evaluators import find
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.transfer import config_on, experiment_on
from care_jax.experiment import build
from care_jax.experiment.build import Experiment
from care_jax.experiment.continuation import changes
from experiments import analysis
from experiments.analysis import Analysis, Numbers
from experiments.finished import FinishedTable

UNTRAINED = "untrained"
EVALUATORS = ("knn", "linear_probe", "equivariance", "motion")  # that THERE is of
THERE = ("linear_probe_top1", "knn_top1", "hue_probe_top1", "rotation_share_explained", "relative_equivariance_median")
HERE = ("linear_probe_top1", "rotation_share_explained")
_SEEN_BY = ("config.data.", "config.model.", "config.augment.", "config.evaluate.")
COMPARED = ("linear_probe_top1", "rotation_share_explained", "hue_probe_top1")


def of_table(table: FinishedTable, on: str) -> tuple[dict[str, dict[str, dict[str, float]]], Experiment]:
    """Row -> seed -> measure -> number on the other set, and `own_` of those of the run's summary.json.

    The row `UNTRAINED` has a seed each that the table has.

    Raises:
      UserError: one line; among them runs of unlike architecture, whose untrained encoders would not be one row.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    judge: Judge | None = None
    for row, seeds in table.folders.items():
        for seed, folder in seeds.items():
            model = trained.load(folder)
            judge = judge or Judge(config_on(model.config, on), on)
            judge.check_like(config_on(model.config, on, warn=lambda _: None), folder)
            summary = _summary(folder)
            if summary.get("steps") != model.step:
                raise UsageError(
                    f"{folder}: summary.json is of step {summary.get('steps')}, the newest checkpoint of {model.step}: "
                    f"care-jax evaluate {folder} brings them together"
                )
            own = {f"own_{name}": number for name, number in _taken(summary, HERE).items()}
            found.setdefault(row, {})[seed] = judge(model.encoder_variables, f"{row}, seed {seed}") | own
            used = {"row": row, "seed": seed, "folder": str(folder), "step": model.step}
            table.used.append(used | {"params_sha256": model.info["params_sha256"]})
            if seed not in found.get(UNTRAINED, {}):
                variables = judge.untrained(model.config.seed)
                found.setdefault(UNTRAINED, {})[seed] = judge(variables, f"{UNTRAINED}, seed {seed}")
    assert judge is not None  # a table has a run
    return found, judge.experiment


class Judge:
    """The other data set, and what it says of an encoder; what is compiled serves all of them.

    Args:
      config: of a run, with the other data.
      on: what the data was called.
    """

    def __init__(self, config: ml_collections.ConfigDict, on: str):
        self.experiment = experiment_on(config)
        self._embedders = cache(partial(make_embedder, self.experiment))
        self._config = config
        dataset = self.experiment.dataset
        say(f"{on}: {dataset.description()}")
        if not dataset.num_classes:
            say("no labels: neighbours and probes are left out, what needs no label is measured")
        fitted_to, d = len(dataset.test) // 2, config.model.head_size
        if fitted_to < d:
            say(
                f"a rotation of {d} dimensions is fitted to {fitted_to} test {dataset.test.noun}, fewer than {d}: the "
                "shares explained are too low, of every row alike; more test images (folders train and test) mend it"
            )

    def check_like(self, config: ml_collections.ConfigDict, folder: Path) -> None:
        """Whether a run's encoder can be judged beside the first one's.

        Raises:
          UsageError: it is another network, or sees or draws otherwise.
        """
        different = [line for line in changes(self._config, config) if line.startswith(_SEEN_BY)]
        if different:
            raise UsageError(
                f"{folder} sees or draws otherwise than the runs before it ({'; '.join(different)}); judge them apart"
            )

    def untrained(self, seed: int) -> Mapping[str, Any]:
        """An encoder's variables before the first step of a run of that seed."""
        config = self._config.copy_and_resolve_references()
        config.seed = seed
        given = pretrained.read(config)  # weights that the run began with
        state = build.make_state(self.experiment._replace(config=config), given.variables if given else None)
        variables = jax.device_get(state.variables)
        return {name: {part: of[part] for part in ("backbone", "head")} for name, of in variables.items()}

    def __call__(self, variables: Mapping[str, Any], name: str) -> dict[str, float]:
        """The numbers of `THERE`, of an encoder's variables; NaN, with a line, where one can't be taken."""
        embedded = EmbeddedDataSet(self.experiment, self._embedders, variables)
        measured = evaluation.measure(embedded, EVALUATORS, file="transfer.json")
        for note in measured.notes:
            say(f"{name}: {note}")
        say(f"{name}, is judged")
        return _taken(measured.numbers, THERE)


def _taken(numbers: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    return {name: math.nan if (value := numbers.get(name)) is None else float(value) for name in names}


def _summary(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "summary.json").read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{folder / 'summary.json'} can't be read ({error}): evaluate the run again") from error


def measures_of(numbers: Numbers) -> dict[str, Measure]:
    """The columns: those of the other set that there are labels for, and the run's own beside them."""
    columns = {}
    for name in THERE:
        if not all(np.isnan(analysis.values(numbers, row, name)).all() for row in numbers):
            columns[name] = find(name)
        if name in HERE:
            own = find(name)
            heading = f"{own.heading or name}, on its own data"
            columns[f"own_{name}"] = own._replace(heading=heading)
    return columns


def picture(numbers: Numbers, there: str) -> Figure:
    """The share explained on the other set over that on the run's own, a point a run; untrained encoders as a band."""
    figure, axis = plots.panel(4.4, 3.4)
    looks = analysis.colours([row for row in numbers if row != UNTRAINED])
    share = "rotation_share_explained"
    lowest = 0.0
    for row, look in looks.items():
        own, other = (analysis.values(numbers, row, name) for name in (f"own_{share}", share))
        lowest = float(np.nanmin([lowest, *own, *other]))
        axis.plot(own, other, look[1], color=look[0], linestyle="none", label=row)
    if UNTRAINED in numbers:
        untrained = analysis.values(numbers, UNTRAINED, share)
        axis.axhspan(untrained.min(), untrained.max(), color=plots.GRAY, alpha=0.3, label="before training")
        lowest = float(np.nanmin([lowest, *untrained]))
    axis.axline((0.0, 0.0), slope=1.0, color=plots.GRAY, linewidth=1.0, linestyle="--")
    limits = lowest - 0.1, 1.02  # a share is at most 1, and has no lower bound
    axis.set(xlabel="share explained on its own data", ylabel=f"on {there}", xlim=limits, ylim=limits)
    axis.legend(frameon=False)
    return figure


def analyse(table: FinishedTable, on: str) -> Analysis:
    """What the encoders of a table are worth on another data set.

    Args:
      table: the runs.
      on: the data set, as of `config_on`.
    """
    if not on:
        raise UsageError("--on is missing: a data set, a configuration file or a folder, --on=fashion for instance")
    if UNTRAINED in table.folders:
        raise UsageError(
            f"{table.workdir} has a row {UNTRAINED}, which is what encoders before training are called here"
        )
    numbers, experiment = of_table(table, on)
    measures = measures_of(numbers)
    compared = tuple(name for name in COMPARED if name in measures)
    dataset = experiment.dataset
    details = {"on": on, "data": dataset.name, "training": len(dataset.train), "test": len(dataset.test)}
    against_untrained = {row: of for row, of in numbers.items() if row != table.against}
    said = analysis.verdicts(measures, compared, against_untrained, UNTRAINED) if table.against else []
    return Analysis(measures, numbers, compared, picture(numbers, Path(on).stem), details, tuple(said))


if __name__ == "__main__":
    flags.DEFINE_string("on", "", "The other data set: a name, a configuration file, or a folder of images.")
    analysis.start("transfer", lambda table: analyse(table, flags.FLAGS.on))
