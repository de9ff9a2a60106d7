"""What happens to a run that is killed, runs out of disk or is started twice: nothing is lost, one line is said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from care_jax import data
from care_jax.data import DataError
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.workdir import WorkdirError, check_data, claim, writing
from tests.environment import on_cpus

PROGRAM = Path(__file__).with_name("small_run.py")


def _start(workdir: Path, *arguments: str, devices: int = 1) -> subprocess.Popen:
    command = [sys.executable, str(PROGRAM), str(workdir), *arguments]
    return subprocess.Popen(command, env=on_cpus(devices), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def _run(workdir: Path, *arguments: str) -> tuple[int, str]:
    process = _start(workdir, *arguments)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


def _sha256(workdir: Path, step: int) -> str:
    """Of the parameters, as the checkpoint of that step says; restoring it proves it."""
    text = next((workdir / "checkpoints" / str(step) / "info").rglob("metadata")).read_text()
    return json.loads(text)["params_sha256"]


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit(tmp_path):
    status, err = _run(tmp_path / "killed", "--num_steps=24", "--kills=12", f"--whole={tmp_path / 'whole'}")
    assert status == 0, err
    assert err.count("status 9, saved steps") >= 4  # the others had ended before the signal came
    assert err.count("care_jax: kill ") == 12
    assert len(set(re.findall(r"going on from step (\d+) of 24", err))) >= 3
    assert _sha256(tmp_path / "killed", 24) == _sha256(tmp_path / "whole", 24)
    rows = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(2, 25, 2))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.9 MB, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> bool:
        return subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode == 0

    if not mount("-t", "tmpfs", "-o", "size=1900k", "tmpfs"):
        pytest.skip("mounting a small disk needs more rights than this user has")
    yield folder, lambda: mount("-o", "remount,size=50M")
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(small_disk):
    disk, enlarge = small_disk
    status, err = _run(disk / "run", "--num_steps=20")
    assert status == 2
    assert "Traceback" not in err
    assert "No space left on device" in err.splitlines()[-1] and str(disk / "run") in err.splitlines()[-1]
    assert enlarge()
    status, err = _run(disk / "run", "--num_steps=20")
    assert status == 0, err
    assert re.search(r"going on from step [2468] of 20", err)


def test_two_runs_do_not_share_a_workdir(tmp_path, tiny_config):
    """A lock belongs to the file as it was opened: what a second opening is refused, a second process is too."""
    with claim(tmp_path, tiny_config()):
        first = (tmp_path / "config.json").read_bytes()
        with (
            pytest.raises(WorkdirError, match=f"is in use: process {os.getpid()} on .*; wait for it, or use another"),
            claim(tmp_path, tiny_config(seed=1)),
        ):
            pass
        assert (tmp_path / "config.json").read_bytes() == first
    with claim(tmp_path, tiny_config()):  # the lock went with the run
        pass


def test_a_start_that_saved_nothing_does_not_claim_the_folder(tmp_path, tiny_config):
    """The corrected command is taken; once something is saved, another is refused."""
    for seed in (0, 1):
        with claim(tmp_path, tiny_config(seed=seed)):
            check_data(tmp_path, build.load_data(tiny_config(data__image_size=16 + seed)))
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"config.seed: 1 -> 0"), claim(tmp_path, tiny_config(seed=0)):
        pass
    with pytest.raises(DataError, match="changed since"):
        check_data(tmp_path, build.load_data(tiny_config()))


def test_a_workdir_that_cannot_be_written_is_one_line(tmp_path, tiny_config):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkdirError, match="can't be written"), claim(folder, tiny_config()):
            pass
    with pytest.raises(WorkdirError, match="No space left on device"), writing(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError), writing(tmp_path / "run"):  # not the disk's fault
        (tmp_path / "none").read_text()


def test_an_image_set_that_changed_is_refused_with_the_difference(tmp_path, tiny_config):
    """As `run` checks it; what counts as a change is tested in data/manifest_test.py."""
    root = tmp_path / "images"
    root.mkdir()
    digits = data.load("digits", image_size=16).pretrain
    for i in range(40):
        Image.fromarray(digits.images[i]).save(root / f"{i:02d}.png")
    config = tiny_config(data__name="image_folder", data__root=str(root))
    check_data(tmp_path, build.load_data(config))
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    check_data(tmp_path, build.load_data(config))
    (root / "07.png").unlink()
    with pytest.raises(DataError, match=r"changed since .*: 1 file removed \(07\.png\); put it back"):
        check_data(tmp_path, build.load_data(config))
