"""Weights & Biases and MLflow as they are installed, without a network: what arrives there, and that a run goes on."""

import json
import os

import pytest

from care_jax import loggers
from care_jax.evaluate import plots
from care_jax.loggers import Final, LoggerError

SETTINGS = {"seed": 3, "data.std": (0.5, 0.25)} | {f"a{number}": number for number in range(150)}


def _final(workdir):
    figure, axis = plots.panel(2.0, 1.0)
    axis.plot([1, 2])
    report = workdir / "report.html"
    report.write_text("<html></html>")
    return Final(5, {"knn_top1": 50.0}, {"Training: loss": plots.png(figure)}, (report,))


@pytest.mark.slow
def test_mlflow_has_settings_rows_files_and_goes_on(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "hues")
    workdir, said = tmp_path / "run", []
    workdir.mkdir()
    for first in (1, 4):
        with loggers.opened(["mlflow"], workdir, SETTINGS, say=said.append) as opened:
            opened.begin(first - 1)
            for step in (first, first + 1):
                opened.write(step, {"loss": step / 2}, "train")
            if first == 4:
                opened.finish(_final(workdir))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("hues").experiment_id])
    assert run.info.run_name == "run" and run.info.status == "FINISHED"
    assert run.data.params["seed"] == "3" and run.data.params["data.std"] == "(0.5, 0.25)"
    assert len(run.data.params) == len(SETTINGS) and run.data.metrics["final/knn_top1"] == 50.0
    rows = [(row.step, row.value) for row in client.get_metric_history(run.info.run_id, "train/loss")]
    assert rows == [(1, 0.5), (2, 1.0), (4, 2.0), (5, 2.5)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert json.loads((workdir / "loggers.json").read_text()) == {"mlflow": run.info.run_id}
    assert said == [f"MLflow: run {run.info.run_id} at sqlite:///{tmp_path}/mlflow.db"] * 2
    with pytest.raises(RuntimeError), loggers.opened(["mlflow"], workdir, SETTINGS):
        raise RuntimeError
    assert client.get_run(run.info.run_id).info.status == "FAILED"


@pytest.mark.slow
def test_weights_and_biases_has_rows_and_pictures_and_goes_on(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()  # it reads the environment once
    refused = pytest.raises(LoggerError, match=r"Weights & Biases can't begin \(No API key.*WANDB_MODE=offline")
    with refused, loggers.opened(["wandb"], tmp_path, SETTINGS):
        raise AssertionError("never")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    said, logged, asked = [], [], []
    log, init = wandb.Run.log, wandb.init
    monkeypatch.setattr(wandb, "init", lambda **given: (asked.append((given["id"], given["resume"])), init(**given))[1])
    monkeypatch.setattr(wandb.Run, "log", lambda run, data: (logged.append((run.id, data)), log(run, data)))
    for first in (1, 4):
        with loggers.opened(["wandb"], tmp_path, SETTINGS, say=said.append) as opened:
            opened.begin(first - 1)
            opened.write(first, {"loss": first / 2}, "train")
            if first == 4:
                opened.finish(_final(tmp_path))
    (name,) = {run for run, _ in logged}
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"wandb": name}
    assert asked == [(None, None), (name, "allow")]
    rows = [row for _, row in logged]
    assert rows[:2] == [{"step": 1, "train/loss": 0.5}, {"step": 4, "train/loss": 2.0}]
    assert rows[2]["final/knn_top1"] == 50.0 and isinstance(rows[2]["report/Training: loss"], wandb.Image)
    assert isinstance(rows[3]["report/page"], wandb.Html)
    assert len(said) == 2 and all(line.startswith(f"Weights & Biases: offline, in {tmp_path}") for line in said)
