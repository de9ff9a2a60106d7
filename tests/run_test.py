"""Whole runs on a folder of images: every placement, labels or none, broken files, and the going on of a run."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from care_jax import build, data, run
from care_jax.config import ConfigError
from care_jax.data import DataError
from care_jax.train.state import params_sha256

pytestmark = pytest.mark.slow
OPTIMIZED = True


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


def test_a_flat_folder_switches_the_probes_off(tiny_config, tmp_path, capsys):
    root = _folder(tmp_path / "images", classes=False)
    assert run.run(_config(tiny_config, root, "device"), tmp_path / "run")
    said = capsys.readouterr().err
    assert "no labels" in said
    assert "skipped 2 image files" in said
    summary = _summary(tmp_path / "run")
    assert summary["linear_probe_top1"] is None and summary["knn_top1"] is None
    assert summary["wahba_mean"] > 0 and summary["skipped_files"] == 2
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("placement", ["host", "decode"])
def test_classes_on_the_host(tiny_config, tmp_path, capsys, placement):
    root = _folder(tmp_path / "images", classes=True)
    assert run.run(_config(tiny_config, root, placement), tmp_path / "run")
    summary = _summary(tmp_path / "run")
    assert 0 <= summary["knn_top1"] <= 100 and 0 <= summary["linear_probe_top1"] <= 100
    assert summary["hue_probe_top1"] is None
    assert "skipped 2 image files" in capsys.readouterr().err


def test_a_missing_folder_is_said_before_anything_is_made(tiny_config, tmp_path):
    with pytest.raises(DataError, match="none"):
        run.run(_config(tiny_config, tmp_path / "none", "device"), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_host_and_device_train_the_same(tiny_config, tmp_path):
    """The placements draw the same numbers: the first losses agree."""
    losses = {}
    for placement in ("device", "host"):
        config = tiny_config(augment__placement=placement, train__num_steps=2, train__log_every=1)
        (tmp_path / placement).mkdir()
        assert run.train(build.build(config), tmp_path / placement).finished
        rows = [json.loads(line) for line in (tmp_path / placement / "metrics.jsonl").read_text().splitlines()]
        losses[placement] = [(row["info_nce"], row["equivariance"]) for row in rows if "loss" in row]
    np.testing.assert_allclose(losses["device"], losses["host"], rtol=2e-4)


def test_a_stopped_run_goes_on_to_the_same_parameters(tiny_config, tmp_path, monkeypatch):
    """Stopped at a step that is known, where kills come when they come."""
    experiment = build.build(_config(tiny_config, _folder(tmp_path / "images", classes=False), "device"))
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = run.train(experiment, tmp_path / "whole").state
    make = build.make_stacked_batches

    def stopped(*arguments):
        for step, batch in enumerate(make(*arguments)):
            if step == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(build, "make_stacked_batches", stopped)
        assert not run.train(experiment, tmp_path / "stopped").finished
    outcome = run.train(experiment, tmp_path / "stopped")
    assert outcome.finished
    assert params_sha256(outcome.state.params) == params_sha256(whole.params)


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
