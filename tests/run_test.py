"""Whole runs on a folder of images: every placement, labels or none, broken files, and the going on of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from care_jax import build, data, run
from care_jax.config import ConfigError
from care_jax.data import DataError
from care_jax.train.state import params_sha256

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


def test_a_flat_folder_switches_the_probes_off(tiny_config, tmp_path, capsys):
    root = _folder(tmp_path / "images", classes=False)
    assert run.run(_config(tiny_config, root, "device"), tmp_path / "run")
    said = capsys.readouterr().err
    assert "training and 5 test images, unlabelled; 3 steps" in said and "no labels" in said
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
    said = capsys.readouterr().err
    assert "skipped 2 image files" in said
    assert "image_folder: 45 training and 5 test images in 2 classes (digit_0, digit_1); 3 steps of 16" in said


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


def test_a_finished_run_is_not_trained_again(tiny_config, tmp_path):
    config = tiny_config(train__num_steps=2)
    state = run.train(build.build(config), tmp_path).state
    assert run.run(config, tmp_path)
    assert _summary(tmp_path)["params_sha256"] == params_sha256(state.params)
    assert _summary(tmp_path)["steps"] == 2
    with pytest.raises(ConfigError, match=r"config\.seed: 0 -> 1"):
        run.run(tiny_config(train__num_steps=2, seed=1), tmp_path)
