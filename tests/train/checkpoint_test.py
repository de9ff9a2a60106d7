"""Checkpoints prove themselves, survive damage, keep the last and the best, and fit any number of devices."""

import builtins
import contextlib
import json
import pickle
import resource
import shutil
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.train import checkpoint_files, sharding
from care_jax.train.checkpoint import CheckpointError, Checkpoints
from care_jax.train.state import TrainState, params_sha256


def _state(step: int, num_devices: int = 1) -> TrainState:
    rng = np.random.default_rng(step)
    state = TrainState(
        step=jnp.int32(step),
        params={"kernel": jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)},
        batch_stats={"mean": jnp.asarray(rng.normal(size=4), jnp.float32)},
        optimizer_state=(jnp.asarray(rng.normal(size=(8, 4)), jnp.float32),),
        method_state={"queue": jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)},
    )
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    return jax.device_put(state, sharding.replicated(mesh))


def test_restores_every_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    sha256 = checkpoints.save(_state(3), info={"seconds": 1.5})
    checkpoints.close()
    state, info = Checkpoints(tmp_path).restore(_state(0))
    chex.assert_trees_all_equal(state, _state(3))
    assert info == {"seconds": 1.5, "params_sha256": sha256}
    assert sha256 == params_sha256(state.params)


def test_restores_onto_another_number_of_devices(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(3, num_devices=8), info={})
    checkpoints.wait()
    state, _ = checkpoints.restore(_state(0, num_devices=2))
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(_state(3)))
    assert len(state.params["kernel"].devices()) == 2


def test_keeps_the_last_and_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for step, accuracy in ((1, 50.0), (2, 90.0), (3, 70.0), (4, 60.0), (5, None)):
        checkpoints.save(_state(step), info={}, metrics=accuracy and {"knn_top1": accuracy})
        checkpoints.wait()
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best_step() == 2


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(_state(step), info={})
    checkpoints.close()
    for file in (tmp_path / "2" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 100:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said: list[str] = []
    state, _ = Checkpoints(tmp_path, warn=said.append).restore(_state(0))
    assert int(state.step) == 1
    assert len(said) == 1 and "/2 can't be used" in said[0]


def test_parameters_that_are_not_those_saved_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.close()
    info = next((tmp_path / "1" / "info").rglob("*metadata*"), None) or next((tmp_path / "1" / "info").iterdir())
    info.write_text(info.read_text().replace(params_sha256(_state(1).params), "0" * 64))
    with pytest.raises(CheckpointError, match="params_sha256"):
        Checkpoints(tmp_path).restore(_state(0))


def test_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        Checkpoints(tmp_path).restore(_state(0))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.wait()
    with pytest.raises(CheckpointError, match="no checkpoint of step 7"):
        checkpoints.restore(_state(0), step=7)


def _damage(kind: str, file: Path) -> None:
    content = bytearray(file.read_bytes())
    if kind == "missing":
        file.unlink()
    elif kind == "empty":
        file.write_bytes(b"")
    else:
        content[len(content) // 2 if kind == "flipped" else -1] ^= 0x10
        file.write_bytes(content)


@pytest.mark.parametrize("kind", ["missing", "empty", "flipped", "flipped at the end"])
def test_any_damaged_file_is_noticed_or_harmless(tmp_path, kind):
    """Every file of a checkpoint in turn: what is restored is what was saved, of this step or of the one before."""
    checkpoints = Checkpoints(tmp_path / "whole")
    for step in (1, 2):
        checkpoints.save(_state(step), info={"seconds": 1.5}, metrics={"knn_top1": 50.0})
    checkpoints.close()
    newest = tmp_path / "whole" / "2"
    files = sorted(file.relative_to(newest) for file in newest.rglob("*") if file.is_file())
    passed_over = 0
    for i, file in enumerate(files):
        copy = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", copy)
        _damage(kind, copy / "2" / file)
        said: list[str] = []
        checkpoints = Checkpoints(copy, warn=said.append)
        state, info = checkpoints.restore(_state(0))
        checkpoints.best_step()
        checkpoints.close()
        step = int(state.step)
        chex.assert_trees_all_equal(state, _state(step))
        assert info["seconds"] == 1.5
        assert step == 2 or said, file
        passed_over += step == 1
    assert passed_over >= 2


def test_every_array_and_the_info_are_proved(tmp_path):
    """Bytes that were changed together with the checksums of the files below: our own sum notices."""
    for name in ("batch_stats", "optimizer_state", "seconds"):
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(_state(1), info={"seconds": 1.5})
        checkpoints.close()
        file = next(file for file in (tmp_path / name / "1" / "info").rglob("metadata") if file.is_file())
        info = json.loads(file.read_text())
        if name == "seconds":
            info["seconds"] = 2.5
        else:
            other = _state(1).replace(**{name: jax.tree.map(lambda x: x + 1, getattr(_state(1), name))})
            info["sha256"] = checkpoint_files.sha256(other, {k: v for k, v in info.items() if k != "sha256"})
        file.write_text(json.dumps(info))
        with pytest.raises(CheckpointError, match="bytes have changed"):
            Checkpoints(tmp_path / name).restore(_state(0))


def test_a_write_that_is_cut_short_is_one_line_and_loses_nothing(tmp_path):
    """No file may grow beyond 100 bytes: as a full disk or a quota would, it stops the write in the middle."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"can't be written to .*Those saved before are kept"):
            checkpoints.save(_state(2), info={})
            checkpoints.wait()
        with contextlib.suppress(CheckpointError):
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [1]
    chex.assert_trees_all_equal(checkpoints.restore(_state(0))[0], _state(1))
    checkpoints.save(_state(3), info={})
    checkpoints.close()
    assert Checkpoints(tmp_path).steps() == [1, 3]


def test_restoring_runs_no_code_of_the_files(tmp_path, monkeypatch):
    """Neither pickle nor eval is ever asked."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.close()

    def refuse(*arguments, **settings):
        raise AssertionError("code of a file would run")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(builtins, "eval", refuse)
    state, _ = Checkpoints(tmp_path).restore(_state(0))
    chex.assert_trees_all_equal(state, _state(1))
