"""What every method and every term promises: devices, micro-batches and interruptions do not change its numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.augment import Augmentation
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.methods import METHODS, TERMS, Views
from care_jax.train import placements
from care_jax.train.checkpoint import Checkpoints

SGD = {
    "optimizer__name": "sgd",
    "optimizer__momentum": 0.0,
    "optimizer__learning_rate": 0.05,
    "augment__placement": "device",
}
# A queue that the batches of 32 wrap: 50 is no multiple of theirs.
CASES = {
    "simclr": {},
    "moco": {"loss__method": "moco", "loss__queue_size": 50},
    # At a rate of 0.05 one ReLU's input in step 5 is zero but for rounding, and devices part from there.
    "byol": {"loss__method": "byol", "loss__momentum": 0.9, "optimizer__learning_rate": 0.04},
    "barlow_twins": {"loss__method": "barlow_twins", "optimizer__learning_rate": 0.002},
    "vicreg": {"loss__method": "vicreg", "optimizer__learning_rate": 0.01},
    "care on a head": {"equivariance__on": "head", "equivariance__group": "lorentz", "optimizer__learning_rate": 0.01},
    "equimod": {"equivariance__term": "equimod"},
    "essl": {"equivariance__term": "essl"},
    "augself": {"equivariance__term": "augself"},
    "sie": {"loss__method": "none", "equivariance__term": "sie", "optimizer__learning_rate": 0.01},
}


def _noise_views(plan, batch, uniforms):
    """All kinds of views without the time that it takes to compile an augmentation of images."""
    own, draws = batch["invariance_views"], uniforms.invariance
    columns = {name: draws[..., i] for i, name in enumerate(Augmentation._fields)}
    small = own[0].reshape(-1, 8, 2, 8, 2, 3).mean((2, 4))
    turned = jnp.stack([jnp.rot90(small, k, axes=(1, 2)) for k in range(4)], axis=1)
    return Views(
        invariance=own,
        equivariance=batch.get("equivariance_views"),
        plain=own[:1] + own[1:],
        rotated=turned.reshape(1, -1, 8, 8, 3),
        drawn=Augmentation(**columns | {"order": draws[..., :4], "further": draws[..., :0]}),
        image_size=(16, 16),
    )


@pytest.fixture
def experiment_of(tiny_config, small_encoder, monkeypatch):
    """Of a case, on a number of devices, with an encoder that compiles fast, with or without batch norm."""
    monkeypatch.setitem(placements.PLACEMENTS, "device", _noise_views)

    def make(case, num_devices=1, batch_norm=True, **overrides):
        config = tiny_config(**{**SGD, **CASES[case], "model__head_batch_norm": batch_norm, **overrides})
        experiment = build.build(config, sharding.make_mesh(jax.devices()[:num_devices]))
        return experiment._replace(encoder=small_encoder(batch_norm=batch_norm))

    return make


def _batch(experiment, step):
    plan, rng = experiment.plan, np.random.default_rng(step)
    sizes = {"invariance_views": plan.batch_size, "equivariance_views": plan.equivariance_batch_size}
    on_devices = sharding.along_axis(experiment.mesh, 1)
    return {
        name: jax.device_put(rng.normal(size=(2, size, 16, 16, 3)).astype(np.float32), on_devices)
        for name, size in sizes.items()
        if size
    }


def _step(experiment):
    chex.clear_trace_counter()
    return jax.jit(
        chex.assert_max_traces(build.make_step(experiment), n=1),
        donate_argnums=0,
        compiler_options={"xla_backend_optimization_level": 0},  # it takes longer to compile than to run
        out_shardings=sharding.replicated(experiment.mesh),
    )


def _train(experiment, step_fn, state, start, end):
    for step in range(start, end):
        state, metrics = step_fn(state, _batch(experiment, step))
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
    return state


def _compare(one, others):
    chex.assert_trees_all_close(one.params, others.params, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(one.method_state, others.method_state, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_devices_micro_batches_and_interruptions_change_nothing(experiment_of, case, tmp_path):
    """20 steps on eight devices, each batch in two parts, are those on one device, to 1e-4.

    Going on from a checkpoint after 9 of them gives the same bits. No batch norm: it sees each part by itself.
    """
    before = jax.device_get(build.make_state(experiment_of(case, batch_norm=False)))
    experiment = experiment_of(case, batch_norm=False)
    start = jax.device_put(before, sharding.replicated(experiment.mesh))
    one = jax.device_get(_train(experiment, _step(experiment), start, 0, 20))
    assert max(jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), one.params, before.params))) > 1e-3

    experiment = experiment_of(case, 8, batch_norm=False, train__micro_batches=2)
    step_fn = _step(experiment)  # which refuses to be traced a second time
    start = jax.device_put(before, sharding.replicated(experiment.mesh))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), start)
    checkpoints = Checkpoints(tmp_path)
    state = _train(experiment, step_fn, start, 0, 9)
    checkpoints.save(state, info={})
    checkpoints.wait()
    eight = jax.device_get(_train(experiment, step_fn, state, 9, 20))
    _compare(one, eight)
    state, _ = checkpoints.restore(like)
    checkpoints.close()
    chex.assert_trees_all_equal(jax.device_get(_train(experiment, step_fn, state, 9, 20)), eight)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["moco", "byol", "equimod"])
def test_devices_change_nothing_with_batch_norm_beside_the_encoder(experiment_of, case):
    """Statistics of a predictor and of the momentum encoder's pass are those of all devices' images."""
    before = jax.device_get(build.make_state(experiment_of(case)))
    states = []
    for num_devices in (1, 8):
        experiment = experiment_of(case, num_devices)
        start = jax.device_put(before, sharding.replicated(experiment.mesh))
        states.append(jax.device_get(_train(experiment, _step(experiment), start, 0, 20)))
    _compare(*states)


def test_every_method_and_term_is_a_case():
    methods = {overrides.get("loss__method", "simclr") for overrides in CASES.values()}
    terms = {overrides.get("equivariance__term", "care") for overrides in CASES.values()}
    # Parts of simclr's; "none" is there, for sie is a whole objective by itself.
    assert methods == set(METHODS) - {"alignment", "uniformity"}
    assert terms == set(TERMS)
