"""MLflow: `pip install 'care_jax[mlflow]'`. MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where, as everywhere."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from care_jax.loggers.base import Final, LoggerError, run_name, tags
from care_jax.loggers.kept import FILE, keep, kept

_MOST = 100  # parameters that it takes at a time


def start(workdir: Path, settings: Mapping[str, Any], say: Callable[[str], None]) -> "MLflow":
    """Goes on with the run that the workdir began, if it began one."""
    try:
        client = MlflowClient()
        begun = kept(workdir, "mlflow")
        if begun:
            client.update_run(begun, status="RUNNING")
            run = begun
        else:
            run = _create(client, run_name(workdir), settings)
    except (MlflowException, OSError) as error:
        raise LoggerError(
            f"MLflow can't begin ({' '.join(str(error).split())}): see MLFLOW_TRACKING_URI, or leave 'mlflow' out of "
            f"config.train.loggers; without {workdir / FILE} the run is a new one there"
        ) from error
    keep(workdir, "mlflow", run)
    say(f"MLflow: run {run} at {client.tracking_uri}")
    return MLflow(client, run)


def _create(client: MlflowClient, name: str, settings: Mapping[str, Any]) -> str:
    title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    experiment = client.get_experiment_by_name(title)
    number = experiment.experiment_id if experiment else client.create_experiment(title)
    run: str = client.create_run(number, run_name=name).info.run_id
    # What it knows of a run's settings it never changes: they are those that the run was begun with.
    params = [Param(setting, str(value)) for setting, value in settings.items()]
    for first in range(0, len(params), _MOST):
        client.log_batch(run, params=params[first : first + _MOST])
    return run


class MLflow:
    """One run there, by a client of its own: whatever run the caller has begun is not touched."""

    title = "MLflow"

    def __init__(self, client: MlflowClient, run: str):
        self._client = client
        self._run = run

    def begin(self, step: int) -> None:
        """Rows of steps that are made again stay: they have the same numbers."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """A row."""
        now = round(1000 * time.time())
        metrics = [Metric(tag, float(value), now, step) for tag, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, final: Final) -> None:
        """Final numbers, and the files, which have the pictures."""
        self.write(final.step, tags(final.numbers, "final"))
        for file in final.files:
            self._client.log_artifact(self._run, str(file))

    def close(self, *, failed: bool) -> None:
        """Says how it ended."""
        self._client.set_terminated(self._run, status="FAILED" if failed else "FINISHED")
