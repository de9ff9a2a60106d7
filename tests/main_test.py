"""The launcher as a user meets it: a run, and a run stopped (kills: unbreakable_test; mistakes: entry_points_test)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# As tiny_config in conftest.py, on the command line.
TINY = [
    "--config=configs/digits.py",
    "--config.data.image_size=16",
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.model.head_hidden_sizes=(16,)",
    "--config.model.head_size=8",
    "--config.train.batch_size=32",
    "--config.train.num_steps=24",
    "--config.train.log_every=5",
    "--config.train.evaluate_every_epochs=0.0",
    "--config.train.checkpoint_every_epochs=0.1",  # 4 steps
    "--config.equivariance.num_groups=4",
    "--config.evaluate.num_augmentations=2",
    "--config.evaluate.probe.epochs=2",
]


def _start(*arguments: str, devices: int = 1, module: str = "care_jax.main", **variables: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(*arguments: str, **settings) -> subprocess.CompletedProcess:
    process = _start(*arguments, **settings)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def _summary(workdir: Path) -> dict:
    return json.loads((workdir / "summary.json").read_text())


def _saved_steps(workdir: Path) -> list[int]:
    """Steps whose checkpoint is whole: those being written have other names."""
    return sorted(int(folder.name) for folder in (workdir / "checkpoints").glob("*") if folder.name.isdigit())


def _wait_for(process: subprocess.Popen, condition) -> None:
    deadline = time.time() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.time() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The workdir of an uninterrupted run, on a machine without TensorFlow."""
    workdir = tmp_path_factory.mktemp("run") / "finished"
    without = tmp_path_factory.mktemp("without")
    for name in ("tensorflow", "tensorflow_datasets"):
        (without / f"{name}.py").write_text("raise ImportError('it is not to be imported')")
    done = _run(*TINY, f"--workdir={workdir}", PYTHONPATH=str(without))
    assert done.returncode == 0, done.stderr
    return workdir


NUMBERS = {
    *("knn_top1", "linear_probe_top1", "hue_probe_top1", "alignment", "uniformity", "wahba_mean", "wahba_worst"),
    *("relative_equivariance_mean", "relative_equivariance_median", "images_per_second", "step_images_per_second"),
    *("seconds", "steps"),
}


@pytest.mark.slow
def test_a_run_leaves_its_numbers_and_a_report(finished):
    summary = _summary(finished)
    assert all(isinstance(summary[name], (int, float)) for name in NUMBERS)
    assert summary["steps"] == 24
    assert summary["images_per_second"] == pytest.approx(24 * 32 / summary["seconds"])
    assert summary["images_per_second"] < summary["step_images_per_second"]
    assert summary["test_examples"] == 359
    assert len(summary["params_sha256"]) == 64
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "info_nce", "equivariance", "images_per_second", "data_wait_share"} <= rows[0].keys()
    report = (finished / "report.html").read_text()
    kinds = [report.count(f"data:image/{kind};base64,") for kind in ("png", "svg+xml")]
    assert kinds[0] >= 3 and sum(kinds) >= 12 and len(report) < 2e6
    assert "<p class='verdict'>" in report and "no baseline" in report
    assert "src='http" not in report and 'src="http' not in report
    assert list((finished / "tensorboard").iterdir())


@pytest.mark.slow
def test_ctrl_c_saves_and_exits_with_status_0(finished, tmp_path):
    """What the other signals do, and at other moments, is stops_test's, loop_test's and run_test's."""
    workdir = tmp_path / "stopped"
    process = _start(
        *TINY,
        f"--workdir={workdir}",
        "--config.train.num_steps=1000",
        "--config.train.steps_per_call=4",  # of which the finished run has compiled it
        "--config.train.checkpoint_every_epochs=0.0",
        "--config.train.log_every=1",
    )
    _wait_for(process, lambda: (workdir / "metrics.jsonl").exists() and (workdir / "metrics.jsonl").read_text())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (step,) = _saved_steps(workdir)
    said = f"care_jax: stopped by SIGINT: step {step} is saved; the same command goes on from there"
    assert err.splitlines()[-1] == said and err.count("stopped by") == 1, err
    assert not (workdir / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("care_jax.main", "no step has been made since it started, so there is nothing to save"),
        ("care_jax.cost", "nothing is lost"),
        ("care_jax.evaluate", "nothing is lost, summary.json and report.html are each the old one or the new"),
        ("experiments.methods", "no step has been made since it started, so there is nothing to save"),
        ("experiments.care_vs_simclr", "no step has been made since it started, so there is nothing to save"),
    ],
)
def test_commands_that_have_hardly_begun_end_with_a_line(module, said, tmp_path):
    process = _start("--config=configs/digits.py", f"--workdir={tmp_path}", module=module)
    # As soon as it has a handler (Python's own for SIGINT is there earlier).
    _wait_for(process, lambda: _catches(process.pid, signal.SIGHUP))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.startswith(f"care_jax: stopped by SIGINT: {said}; the same command ") and len(err.splitlines()) == 1


def test_every_command_takes_them_in_its_first_line_and_then_looks_for_its_packages():
    commands = [path for room in ("care_jax", "experiments") for path in (ROOT / room).rglob("*.py")]
    commands = [path for path in commands if 'if __name__ == "__main__":' in path.read_text()]
    assert len(commands) >= 5
    for path in commands:
        before, install, after = path.read_text().partition("stops.install(")
        assert install and before.count("import ") == 1, path
        assert "extras.require_train()" in after.partition("import ")[0], path


def _catches(pid: int, number: signal.Signals) -> bool:
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_evaluate_again_from_the_checkpoint(finished):
    before = _summary(finished)
    (finished / "report.html").unlink()
    done = _run(f"--workdir={finished}", module="care_jax.evaluate")
    assert done.returncode == 0, done.stderr
    assert _summary(finished) == before
    assert (finished / "report.html").exists()


@pytest.mark.slow
def test_devices_must_divide_the_batch(tmp_path):
    done = _run(
        "--config=configs/digits.py",
        f"--workdir={tmp_path / 'none'}",
        "--config.train.batch_size=120",
        "--config.equivariance.num_groups=4",
        devices=7,
    )
    assert done.returncode == 2
    assert "7 devices do not divide" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
