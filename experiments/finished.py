"""The finished runs of a table, with their encoders and data: what an analysis of them begins with.

A table's folder has a folder ROW_seed_N a run, as `care_jax.sweep.tables` makes them. Runs that have no summary.json
are not finished, and are passed over, which is said. What is assumed the same of all runs is compared: other data is
refused, other steps and other draws of the evaluation are said. What monitors noted is compared in `unlike`.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections

from care_jax import trained
from care_jax.command_line import UsageError, say
from care_jax.data import DataSet
from care_jax.devices import sharding
from care_jax.errors import UserError
from care_jax.evaluate import plots
from care_jax.evaluate.embedded import EmbeddedDataSet, make_embedder
from care_jax.experiment import build
from care_jax.experiment.inputs import stored_side
from care_jax.experiment.settings import of_clouds
from care_jax.sweep.runs import made_with, run_folders
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
      against: as the attribute; empty for the row of plain SimCLR, if there is one; None where nothing is compared.
      only: the rows to take, by the names of their folders; empty for all.

    Raises:
      UsageError: no finished run; no such row; several rows of plain SimCLR; more rows than there are colours.
    """

    def __init__(self, workdir: Path, against: str | None = "", only: Sequence[str] = ()):
        self.workdir = workdir
        self.folders = _chosen(_finished(workdir, only), workdir, only)
        if against and against not in self.folders:
            where = "--only" if only else workdir
            raise UsageError(f"--against={against} is no row of {where}; there are {', '.join(self.folders)}")
        self.against = "" if against is None else against or self._simclr(" of --only" if only else "")
        self.used: list[dict[str, Any]] = []

    def _simclr(self, of: str) -> str:
        found = []
        for row, of_seeds in self.folders.items():
            config = _settings(next(iter(of_seeds.values())))
            if config.loss.method == "simclr" and not config.equivariance.weight:
                found.append(row)
        if len(found) > 1:
            raise UsageError(f"{self.workdir} has several rows of plain SimCLR: give --against, one of {found}")
        if not found and len(self.folders) > 1:
            say(f"no row{of} is plain SimCLR, and nothing is compared; --against names the row to compare with")
        return found[0] if found else ""

    def runs(self, *, every_checkpoint: bool = False, branch: str = "equivariance") -> Iterator[Finished]:
        """Each run with its encoder and data, one in memory at a time.

        Args:
          every_checkpoint: each run once a checkpoint that it has, by their steps, not only with its newest.
          branch: whose augmentations are going to be drawn, "equivariance" or "invariance".

        Raises:
          UserError: a checkpoint or the data can't be used, or has changed since; runs of other data sets.
        """
        load_data: Any = cache(lambda key: build.load_data(configs[key]))
        embedders: Any = cache(lambda key: cache(partial(make_embedder, experiments[key])))
        configs: dict[str, Any] = {}
        experiments: dict[str, build.Experiment] = {}
        drawn: Any = None
        newest: tuple[Path, int] | None = None
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
                # Not what it trained on: its batch need not be divided here.
                experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]), dataset)
                experiment = experiment._replace(mesh=sharding.make_mesh())
                # Of the invariance branch every input has two draws, however many the evaluation has of the other.
                shared = config.evaluate.num_augmentations if branch == "equivariance" else 0
                draws = getattr(experiment.plan, branch), config.evaluate.seed, shared
                drawn = drawn or draws
                if draws != drawn:
                    say(f"{folder} draws other augmentations than the first run: each is judged by draws of its own")
                # Runs of one architecture share what is compiled.
                sections = [config[name].to_dict() for name in ("model", "augment", "evaluate")]
                same = json.dumps(sections, default=str)
                experiments.setdefault(same, experiment)
                steps = _steps(folder) if every_checkpoint else [""]
                for step in steps:
                    model = trained.load(folder, step)
                    embedded = EmbeddedDataSet(experiment, embedders(same), model.encoder_variables)
                    if step == steps[-1]:  # what the table is of
                        newest = newest or (folder, model.step)
                        check_steps(newest, (folder, model.step))
                    of = {"step": model.step, "params_sha256": model.info["params_sha256"]}
                    self.used.append({"row": row, "seed": seed, "folder": str(folder), **of})
                    yield Finished(row, seed, model, embedded)


def check_steps(first: tuple[Path, int], other: tuple[Path, int]) -> None:
    """Says where two runs, folder and step, are of unlike steps."""
    if other[1] != first[1]:
        say(f"{other[0]} is of step {other[1]}, {first[0]} of {first[1]}: unlike things")


def _finished(workdir: Path, only: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Row -> seed -> folder, of all rows; of what is no finished run it is said, where its row is asked for."""
    found: dict[str, dict[str, Path]] = {}
    for folder in sorted(run_folders(workdir), key=_row_and_seed):
        row, seed = _row_and_seed(folder)
        if seed >= 0 and (folder / "summary.json").exists():
            found.setdefault(row, {})[str(seed)] = folder
        elif not only or row in only:
            no_run = "ends in no seed: it is no run of the table"
            say(f"{folder} {no_run if seed < 0 else 'has no summary.json: it is not finished'}, and is passed over")
    if not found:
        raise UsageError(f"no finished run in {workdir}; --workdir is a table's folder, with folders ROW_seed_N")
    return found


def _chosen(found: dict[str, dict[str, Path]], workdir: Path, only: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Those of `only`, no more than there are colours."""
    if unknown := [row for row in only if row not in found]:
        raise UsageError(f"--only={unknown[0]} is no row of {workdir} that has a run; there are {', '.join(found)}")
    chosen = {row: of_seeds for row, of_seeds in found.items() if not only or row in only}
    if len(chosen) > len(plots.PALETTE):
        raise UsageError(
            f"{'--only' if only else workdir} has {len(chosen)} rows, more than the {len(plots.PALETTE)} that colours "
            f"tell apart: choose some, --only={','.join(list(found)[:2])} for instance; there are {', '.join(found)}"
        )
    return chosen


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
