"""Checkpoints prove themselves, survive damage, keep the last and the best, and fit any number of devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.train import sharding
from care_jax.train.checkpoint import CheckpointError, Checkpoints
from care_jax.train.state import TrainState, params_sha256


def _state(step: int, num_devices: int = 1) -> TrainState:
    rng = np.random.default_rng(step)
    state = TrainState(
        step=jnp.int32(step),
        params={"kernel": jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)},
        batch_stats={"mean": jnp.asarray(rng.normal(size=4), jnp.float32)},
        optimizer_state=(jnp.asarray(rng.normal(size=(8, 4)), jnp.float32),),
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
    assert len(said) == 1 and "step 2" in said[0]


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
