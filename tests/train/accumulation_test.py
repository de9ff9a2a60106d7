"""Micro-batches give the gradients of the undivided batch, and several steps in a call those of single ones."""

import itertools

import chex
import jax
import numpy as np
import pytest

from care_jax import models
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.train.placements import PLACEMENTS, part
from care_jax.train.step import repeat


@pytest.fixture
def experiment_of(small_encoder):
    """Of a configuration, on a number of devices, with an encoder of a width that compiles fast and no augmentation."""

    def make(config, num_devices=1, width=32):
        config.augment.placement = "host"
        experiment = build.build(config, sharding.make_mesh(jax.devices()[:num_devices]))
        return experiment._replace(encoder=small_encoder(width))

    return make


def _batch(experiment, step=0):
    """Noise for views: what they show does not matter here."""
    plan, rng = experiment.plan, np.random.default_rng(step)
    sizes = {"invariance_views": plan.batch_size, "equivariance_views": plan.equivariance_batch_size}
    on_devices = sharding.along_axis(experiment.mesh, 1)
    return {
        name: jax.device_put(rng.normal(size=(2, size, 16, 16, 3)).astype(np.float32), on_devices)
        for name, size in sizes.items()
        if size
    }


def _undivided_gradients(experiment, state, batch, micro_batches):
    """Every micro-batch embedded by itself, in one differentiable expression; rows put back in their order by NumPy."""
    plan, objective = experiment.plan, experiment.objective
    networks = models.Networks.of(experiment.encoder, objective.heads)
    order = np.argsort(np.concatenate([np.arange(i, plan.batch_size, micro_batches) for i in range(micro_batches)]))
    few = plan.equivariance_batch_size
    few_order = np.argsort(np.concatenate([np.arange(i, few, micro_batches) for i in range(micro_batches)]))

    @jax.jit
    def gradients(params, batch_stats, batch):
        def loss(params):
            stats, parts = batch_stats, []
            for i in range(micro_batches):
                views = PLACEMENTS["host"](plan, *part(batch, plan.uniforms(0), i, micro_batches))
                variables = {"params": params, "batch_stats": stats}
                outputs, updates = networks.apply(variables, views, {}, method=objective.embed, mutable=["batch_stats"])
                parts.append(outputs)
                stats = updates["batch_stats"]
            outputs = {
                name: jax.numpy.concatenate([x[name] for x in parts], axis=1)[
                    :, few_order if name.startswith("equivariance") else order
                ]
                for name in parts[0]
            }
            total, terms = objective(outputs, {})
            return total, (terms, stats)

        return jax.grad(loss, has_aux=True)(params)

    return gradients(state.params, state.batch_stats, batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"equivariance__batch_size": 16, "equivariance__num_groups": 2},
        {"equivariance__weight": 0.0},
        {"model__remat": True},
    ],
    ids=["all images", "the first images", "no shared views", "rematerialised"],
)
def test_micro_batches_give_the_gradients_of_the_undivided_batch(tiny_config, experiment_of, overrides):
    sgd = {"optimizer__name": "sgd", "optimizer__momentum": 0.0, "optimizer__learning_rate": 1.0}
    experiment = experiment_of(tiny_config(train__micro_batches=4, optimizer__weight_decay=0.0, **sgd, **overrides))
    state, batch = build.make_state(experiment), _batch(experiment)
    expected, (terms, batch_stats) = _undivided_gradients(experiment, state, batch, 4)
    after, metrics = jax.jit(build.make_step(experiment))(state, batch)
    actual = jax.tree.map(lambda before, after: before - after, state.params, after.params)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5 * largest)
    chex.assert_trees_all_close(after.batch_stats, batch_stats, rtol=1e-5, atol=1e-6)
    assert metrics["info_nce"] == pytest.approx(float(terms["info_nce"]), rel=1e-5)
    assert metrics["loss"] == pytest.approx(float(terms["loss"]), rel=1e-5)


@pytest.mark.slow
def test_micro_batches_on_eight_devices_are_those_of_one(tiny_config, experiment_of):
    config = tiny_config(train__micro_batches=2, optimizer__name="sgd", optimizer__learning_rate=0.1)
    params = []
    for num_devices in (1, 8):
        experiment = experiment_of(config, num_devices)
        state, step = build.make_state(experiment), jax.jit(build.make_step(experiment))
        for i in range(2):
            state, _ = step(state, _batch(experiment, i))
        params.append(jax.device_get(state.params))
    chex.assert_trees_all_close(*params, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_micro_batches_hold_a_part_of_the_activations(tiny_config, experiment_of):
    temporary = []
    for micro_batches in (1, 8):
        experiment = experiment_of(tiny_config(train__micro_batches=micro_batches, train__batch_size=256), width=2048)
        state, batch = build.make_state(experiment), _batch(experiment)
        compiled = jax.jit(build.make_step(experiment)).lower(state, batch).compile()
        temporary.append(compiled.memory_analysis().temp_size_in_bytes)
    assert temporary[1] < temporary[0] / 3


@pytest.mark.slow
def test_steps_in_one_call_are_single_steps(tiny_config, experiment_of):
    experiment = experiment_of(tiny_config(optimizer__name="sgd"))
    batches = [_batch(experiment, step) for step in range(4)]
    results = []
    for counts in ([1] * 4, [3, 1]):
        steps = jax.jit(repeat(build.make_step(experiment)))
        state, rows, left = build.make_state(experiment), [], iter(batches)
        for count in counts:
            stacked = jax.tree.map(lambda *x: np.stack(x), *itertools.islice(left, count))
            state, metrics = steps(state, stacked)
            rows.append(metrics)
        assert [len(row["loss"]) for row in rows] == counts
        rows = jax.tree.map(lambda *values: np.concatenate(values), *rows)
        results.append(jax.device_get((state, rows)))
    assert int(results[0][0].step) == 4
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["device", "decode"])
def test_batches_are_stacked_in_order(tiny_config, placement):
    experiment = build.build(tiny_config(augment__placement=placement), sharding.make_mesh(jax.devices()[:2]))
    single = list(build.make_batches(experiment, 2))
    assert len(single) == 4
    first, second = build.make_stacked_batches(experiment, 2, [3, 1])
    for name in single[0]:
        if name == "images":
            assert first[name].rows.shape == single[0][name].rows.shape
            continue
        np.testing.assert_array_equal(first[name], np.stack([batch[name] for batch in single[:3]]))
        np.testing.assert_array_equal(second[name], single[3][name][None])


def test_parts_of_a_batch_are_its_rows(tiny_config):
    """Part i has rows i, i + 4, ... of the batch and of its draws, whatever was placed where."""
    experiment = build.build(tiny_config(equivariance__batch_size=16, equivariance__num_groups=8))
    plan = experiment.plan
    uniforms = plan.uniforms(0)
    arrays = {
        "indices": np.arange(32),
        "boxes": np.arange(64).reshape(2, 32),
        "equivariance_images": np.arange(16),
        "images": "all",
    }
    batch, drawn = part({k: v if k == "images" else jax.numpy.asarray(v) for k, v in arrays.items()}, uniforms, 3, 4)
    np.testing.assert_array_equal(batch["indices"], np.arange(3, 32, 4))
    np.testing.assert_array_equal(batch["boxes"], arrays["boxes"][:, 3::4])
    np.testing.assert_array_equal(batch["equivariance_images"], np.arange(3, 16, 4))
    assert batch["images"] == "all"
    np.testing.assert_array_equal(drawn.invariance, uniforms.invariance[:, 3::4])
    np.testing.assert_array_equal(drawn.equivariance, uniforms.equivariance[:, 3::4])
    np.testing.assert_array_equal(drawn.third, uniforms.third[3::4])
