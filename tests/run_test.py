"""Whole runs on a folder of images: every placement, labels or none, broken files, and the going on of a run."""

import doctest
import json
import sys
from collections import defaultdict
from pathlib import Path
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from PIL import Image

from care_jax import data, run
from care_jax.data import DataError
from care_jax.devices import sharding
from care_jax.evaluate import results
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.evaluation import Evaluation, Measured
from care_jax.evaluate.evaluators import measures
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.sweep import runs
from care_jax.train.loop import Outcome
from care_jax.train.state import params_sha256
from care_jax.workdir import WorkdirError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def compiles_fast(monkeypatch, small_encoder):
    """Whole runs with a ResNet are main_test's."""
    monkeypatch.setattr(build, "make_encoder", lambda config: small_encoder())


def _folder(root: Path, *, classes: bool, count: int = 48) -> Path:
    """Digits as PNG files, flat or in a folder a class; one file is no image and one is cut short."""
    digits = data.load("digits", image_size=20).pretrain
    for i in range(count):
        folder = root / f"digit_{i % 2}" if classes else root
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[i]).save(folder / f"{i:03d}.png")
    folder = root / "digit_0" if classes else root
    (folder / "notes.png").write_text("not an image")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:80])
    return root


def _config(tiny_config, root: Path, placement: str, **overrides):
    names = {
        "data.name": "image_folder",
        "data.root": str(root),
        "augment.placement": placement,
        "train.batch_size": 16,
        "train.num_steps": 3,
        "train.log_every": 1,
        "evaluate.batch_size": 7,
        "evaluate.num_augmentations": 2,
    }
    return tiny_config(**(names | overrides))


def _summary(workdir: Path) -> dict:
    return json.loads((workdir / "summary.json").read_text())


def test_a_flat_folder_switches_the_probes_off_and_needs_no_tensorflow(tiny_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it fails
    # What another process of several would tell at the end.
    theirs = lambda files: files.join({"theirs.png": "empty file"}, by="process 1 on host1")  # noqa: E731
    monkeypatch.setattr(results, "to_the_first", Mock(skipped=theirs))
    root = _folder(tmp_path / "images", classes=False)
    assert run.run(_config(tiny_config, root, "device"), tmp_path / "run")
    said = capsys.readouterr().err
    assert "training and 5 test images, unlabelled; 3 steps" in said and "no labels" in said
    assert "skipped 2 image files" in said and "skipped 3 image files" in said
    summary = _summary(tmp_path / "run")
    assert summary["linear_probe_top1"] is None and summary["knn_top1"] is None
    assert summary["wahba_mean"] > 0 and summary["skipped_files"] == 3
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("placement", ["host", "decode"])
def test_classes_on_the_host(tiny_config, tmp_path, capsys, monkeypatch, placement):
    passes, embed = [], Embedder.__call__
    monkeypatch.setattr(Embedder, "__call__", lambda *given: passes.append(given) or embed(*given))
    root = _folder(tmp_path / "images", classes=True)
    monitor = ("knn", "equivariance", "linear_probe")
    assert run.run(_config(tiny_config, root, placement, **{"evaluate.monitor": monitor}), tmp_path / "run")
    summary = _summary(tmp_path / "run")
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"knn_top1", "linear_probe_top1", "wahba_mean", "relative_equivariance_median"} < row.keys()
    assert all(summary[name] == value for name, value in row.items() if name != "step")
    # The last monitors and the end together: both sets, 2 draws and their composition, alignment's 2 views, 8 draws an
    # image of the parameters'; of the pictures, 2 hues, the orbits of 2 turns, and 34 strengths of augmentations.
    assert len(passes) == 11 + 8 + 34
    assert 0 <= summary["knn_top1"] <= 100 and 0 <= summary["linear_probe_top1"] <= 100
    assert "hue_probe_top1" not in summary
    said = capsys.readouterr().err
    assert "skipped 2 image files" in said
    assert "image_folder: 45 training and 5 test images in 2 classes (digit_0, digit_1); 3 steps of 16" in said


@pytest.mark.parametrize("late", [False, True])
def test_skipped_files_are_told_before_training_and_again_only_where_there_are_more(
    tiny_config, tmp_path, monkeypatch, capsys, late
):
    """Those too that the final evaluation is the first to meet."""
    stages = []

    def write(evaluation, *given, **named):
        stages.append(capsys.readouterr().err)
        if late:
            evaluation.experiment.dataset.skipped.add("late.png", "truncated or damaged")
        return defaultdict(int)

    def trained(*given, **named):
        stages.append(capsys.readouterr().err)
        return Outcome(Mock(step=3, variables={}), "", 1.0, {"device": "1 x cpu"})

    monkeypatch.setattr(run.loop, "run", trained)
    monkeypatch.setattr(run.results, "write", write)
    root = _folder(tmp_path / "images", classes=True)
    assert run.run(_config(tiny_config, root, "device"), tmp_path / "run")
    stages.append(capsys.readouterr().err)
    skipped = [[line for line in stage.splitlines() if "could not be used" in line] for stage in stages]
    assert [len(lines) for lines in skipped] == [1, 0, int(late)]
    assert "skipped 2 image files" in skipped[0][0]
    assert not late or "skipped 3 image files" in skipped[2][0]


def test_files_skipped_by_any_process_are_told_at_each_save(tiny_config, tmp_path, monkeypatch, capsys):
    """Not at the end of a run of weeks."""
    experiment = build.build(tiny_config(train__num_steps=4))
    names = iter(["a.png", "b.png", "c.png"])

    def tell(files):
        files.join({next(names): "unreadable: Permission denied"}, by="process 3 on host3")

    monkeypatch.setattr(run.to_the_first, "skipped", tell)
    assert run.train(experiment, tmp_path).finished
    lines = [line for line in capsys.readouterr().err.splitlines() if "met by process 3 on host3" in line]
    assert ["skipped 3" in line for line in lines] == [False, False, True]  # at the start, and after steps 2 and 4


@pytest.mark.parametrize(("monitor", "told"), [(("knn",), True), (("equivariance",), False)])
def test_evaluations_that_rank_nothing_are_said(tiny_config, tmp_path, monkeypatch, capsys, monitor, told):
    """And steps a call that no call makes."""
    monkeypatch.setattr(run.fits, "compile_steps", Mock(side_effect=NotImplementedError))
    periods = {"train.evaluate_every_epochs": 2 / 44, "train.checkpoint_every_epochs": 3 / 44}
    config = tiny_config(**periods, **{"train.steps_per_call": 5, "evaluate.monitor": monitor})
    with pytest.raises(NotImplementedError):
        run.train(build.build(config), tmp_path)
    said = capsys.readouterr().err
    assert ("1 of 3 evaluations fall on a save" in said) == told
    assert "train.steps_per_call is 5, but a save or an evaluation is due every 2 steps" in said


@pytest.mark.parametrize(
    ("name", "download", "alone", "prepared"),
    [
        ("cifar10", True, False, True),
        ("cifar10", False, False, False),
        ("cifar10", True, True, False),
        ("digits", True, False, False),
    ],
)
def test_processes_prepare_their_data_in_turn(tiny_config, tmp_path, monkeypatch, name, download, alone, prepared):
    calls = []
    monkeypatch.setattr(run.agreement, "is_alone", lambda: alone)
    monkeypatch.setattr(run.turns, "in_turn", lambda what, do: (calls.append(what), do()))
    monkeypatch.setattr(run.tfds, "prepare", lambda *given: calls.append(given))
    run._prepare_data(tiny_config(data__name=name, data__root=str(tmp_path), data__download=download))
    assert calls == (["prepare the data", (name, tmp_path)] if prepared else [])


def test_a_missing_folder_is_said_before_anything_is_made(tiny_config, tmp_path):
    with pytest.raises(DataError, match="none"):
        run.run(_config(tiny_config, tmp_path / "none", "device"), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_host_and_device_train_the_same(tiny_config, tmp_path):
    """The placements draw the same numbers: the first losses agree."""
    drawn = {
        f"augment.{branch}.{name}_probability": 0.5
        for branch in ("invariance", "equivariance")
        for name in ("jitter", "blur")
    }
    losses = {}
    for placement in ("device", "host"):
        (tmp_path / placement).mkdir()
        config = tiny_config(**{"augment.placement": placement, "train.num_steps": 3, "train.log_every": 1}, **drawn)
        assert run.train(build.build(config), tmp_path / placement).finished
        rows = [json.loads(line) for line in (tmp_path / placement / "metrics.jsonl").read_text().splitlines()]
        losses[placement] = [(row["info_nce"], row["equivariance"]) for row in rows if "loss" in row]
    assert len(losses["device"]) == 3
    np.testing.assert_allclose(losses["device"], losses["host"], rtol=2e-4)


@pytest.mark.parametrize(("processes", "left_off"), [(1, True), (2, False)])
def test_a_single_process_leaves_its_monitor_off_for_a_stop(tmp_path, monkeypatch, processes, left_off):
    """Two embed together: one of them would wait for the other."""
    monkeypatch.setattr(run.jax, "process_count", lambda: processes)
    monkeypatch.setattr(run.stops, "check", Mock(side_effect=run.stops.Interrupted))
    monkeypatch.setattr(run, "Evaluation", lambda experiment, check: check())
    monkeypatch.setattr(run, "Checkpoints", Mock(side_effect=NotImplementedError))
    with pytest.raises(run.stops.Interrupted if left_off else NotImplementedError):
        run.train(Mock(), tmp_path)


def test_what_a_signal_costs_is_said_at_every_stage(tiny_config, tmp_path, monkeypatch, capsys):
    """In this order; while it trains, the loop has the signals."""
    happened, state = [], Mock(step=3, variables={})
    outcomes = iter([Outcome(state, "SIGHUP", 1.0, {}), Outcome(state, "", 1.0, {"device": "1 x cpu"})])
    monkeypatch.setattr(run.stops, "at_once", lambda *said: happened.append("".join(said)))
    monkeypatch.setattr(run, "train", lambda *given, **more: happened.append("train") or next(outcomes))
    monkeypatch.setattr(run.results, "write", lambda *given, **more: happened.append("write") or defaultdict(int))
    assert not run.run(tiny_config(), tmp_path)
    assert happened == ["", "train"]
    assert "stopped by SIGHUP: step 3 is saved; the same command goes on from there" in capsys.readouterr().err
    assert run.run(tiny_config(), tmp_path)
    assert happened[3:] == [
        "train",
        "training is finished and saved; the same command goes on with the evaluation",
        "write",
        f"{tmp_path} is finished, its numbers and its report are written",
    ]


def test_an_experiment_ends_with_the_run_that_was_stopped(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "run", lambda *_: False)
    with pytest.raises(SystemExit) as ended:
        runs.finished_run(tiny_config(), tmp_path)
    assert ended.value.code == 0


def test_a_stopped_run_goes_on_to_the_same_parameters(tiny_config, tmp_path, monkeypatch, capsys):
    """Stopped at a step that is known, where kills come when they come."""
    experiment = build.build(_config(tiny_config, _folder(tmp_path / "images", classes=False), "device"))
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = run.train(experiment, tmp_path / "whole").state
    asked = iter(["", "SIGTERM"])
    outcome = run.train(experiment, tmp_path / "stopped", stop=lambda: next(asked))
    assert outcome.stopped_by == "SIGTERM" and int(outcome.state.step) == 1
    now = run.provenance.found()
    monkeypatch.setattr(run.provenance, "found", lambda: now | {"jax": "another"})
    outcome = run.train(experiment, tmp_path / "stopped")
    assert outcome.finished
    assert f"of other programs (jax {jax.__version__} -> another): steps may differ" in capsys.readouterr().err
    assert outcome.info["device"] == sharding.described(experiment.mesh)  # of both parts, once
    assert "other devices" not in capsys.readouterr().err
    assert params_sha256(outcome.state.params) == params_sha256(whole.params)


def test_other_devices_are_said(tiny_config, tmp_path, capsys):
    experiment = build.build(_config(tiny_config, _folder(tmp_path / "images", classes=False), "device"))
    asked = iter(["", "SIGTERM"])
    run.train(experiment, tmp_path, stop=lambda: next(asked))
    run.train(build.build(experiment.config, sharding.make_mesh(jax.devices()[:1])), tmp_path)
    assert "other devices (8 x cpu, then 1 x cpu): from here on steps differ by rounding" in capsys.readouterr().err


def test_the_devices_of_a_run_that_goes_on_are_named_in_their_order():
    ended = doctest.testmod(run)
    assert ended.attempted and not ended.failed


def test_a_finished_run_is_not_trained_again(tiny_config, tmp_path):
    config = _config(tiny_config, _folder(tmp_path / "images", classes=False), "device")
    (tmp_path / "run").mkdir()
    state = run.train(build.build(config), tmp_path / "run").state
    assert run.run(config, tmp_path / "run")
    assert _summary(tmp_path / "run")["params_sha256"] == params_sha256(state.params)
    assert _summary(tmp_path / "run")["steps"] == 3
    config.seed = 1
    with pytest.raises(ConfigError, match=r"config\.seed: 0 -> 1"):
        run.run(config, tmp_path / "run")


@pytest.mark.parametrize("when", ["training", "evaluation"])
def test_a_workdir_that_disappears_is_no_success(tiny_config, tmp_path, monkeypatch, when):
    """Neither a save nor the report goes to a folder that took its place."""
    workdir = tmp_path / "run"

    def replace_after(function):
        def wrapped(*arguments, **settings):
            done = function(*arguments, **settings)
            workdir.rename(tmp_path / "moved")
            workdir.mkdir()
            return done

        return wrapped

    # What is measured and shown has its own tests, and takes long to compile.
    monkeypatch.setattr(Evaluation, "measure", lambda *_: Measured(dict.fromkeys(measures(()), 0.5)))
    monkeypatch.setattr(results, "_report", lambda *_: "")
    owner, name = (build, "make_state") if when == "training" else (results, "_report")
    monkeypatch.setattr(owner, name, replace_after(getattr(owner, name)))
    with pytest.raises(WorkdirError, match="is gone, or another folder took its place"):
        run.run(tiny_config(train__num_steps=2), workdir)
    assert not (workdir / "checkpoints").exists() and not (workdir / "summary.json").exists()
