"""The finished runs of a table, with their encoders and data: what an analysis of them begins with.

A table's folder has a folder ROW_seed_N a run, as `care_jax.sweep.tables` makes them. Runs that have no summary.json
are not finished, and are passed over, which is said. What is assumed the same of all runs is compared: other data is
refused, other steps and other draws of the evaluation are said.
"""

import json
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from care_jax import trained
from care_jax.command_line import UsageError, say
from care_jax.data import DataSet
from care_jax.errors import UserError
from care_jax.evaluate import plots
from care_jax.evaluate.embedded import EmbeddedDataSet, make_embedder
from care_jax.experiment import build
from care_jax.experiment.inputs import stored_side
from care_jax.experiment.settings import of_clouds
from care_jax.sweep.runs import made_with
from care_jax.trained import Trained
from care_jax.workdir import check_data


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
            if seed < 0:
                say(f"{folder} ends in no seed: it is no run of the table, and is passed over")
                continue
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
            config = _settings(next(iter(of_seeds.values())))
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
        drawn: Any = None
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
                draws = experiment.plan.equivariance, config.evaluate.seed, config.evaluate.num_augmentations
                drawn = drawn or draws
                if draws != drawn:
                    say(f"{folder} draws other augmentations than the first run: each is judged by draws of its own")
                # Runs of one architecture share what is compiled.
                sections = [config[name].to_dict() for name in ("model", "augment", "evaluate")]
                same = json.dumps(sections, default=str)
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


def _settings(folder: Path) -> ml_collections.ConfigDict:
    """Of a run: its summary has them, where it is no older than that; then records without checkpoints are enough."""
    try:
        return made_with(folder)
    except UserError:
        return trained.config_of(folder)


def _steps(folder: Path) -> list[str]:
    return sorted((path.name for path in (folder / "checkpoints").iterdir() if path.name.isdigit()), key=int)


def _row_and_seed(folder: Path) -> tuple[str, int]:
    row, _, seed = folder.name.rpartition("_seed_")
    return row, int(seed) if seed.isdecimal() else -1
