"""One update: what it computes, that it compiles once, and that devices do not change its numbers."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import losses
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.train.placements import PLACEMENTS
from tests.environment import AS_USUAL


def _experiment(config, num_devices=1, encoder=None):
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:num_devices]))
    return experiment._replace(encoder=encoder or experiment.encoder)


def _train(experiment, steps):
    chex.clear_trace_counter()
    step_fn = jax.jit(chex.assert_max_traces(build.make_step(experiment), n=1), donate_argnums=0)
    state = build.make_state(experiment)
    batches = build.make_batches(experiment, 0)
    rows = []
    for _ in range(steps):
        state, metrics = step_fn(state, next(batches))
        rows.append(metrics)
    return jax.device_get(state), jax.device_get(rows)


@pytest.fixture(scope="module")
def make_views():
    """`make_views(experiment, batch)` of step 0: compiled once a placement."""
    compiled = {}

    def make(experiment, batch):
        plan, placement = experiment.plan, experiment.config.augment.placement
        if (placement, plan) not in compiled:
            compiled[placement, plan] = jax.jit(lambda batch: PLACEMENTS[placement](plan, batch, plan.uniforms(0)))
        return compiled[placement, plan](batch)

    return make


@pytest.fixture(scope="module")
def trained(tiny_config, small_encoder):
    """The tiny run on one device and on eight: made once, asked by several; a ResNet on devices is encoder_test's.

    With plain SGD the parameters after a step are its gradients; Adam would divide rounding by a root of rounding.
    """
    cache = {}

    def get(num_devices):
        if num_devices not in cache:
            sgd = tiny_config(optimizer__name="sgd", optimizer__momentum=0.0, optimizer__learning_rate=0.01)
            cache[num_devices] = _train(_experiment(sgd, num_devices, small_encoder()), 3)
        return cache[num_devices]

    return get


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(trained):
    (one, rows_one), (eight, rows_eight) = (trained(devices) for devices in (1, 8))
    chex.assert_trees_all_close(rows_one[0], rows_eight[0], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(one.batch_stats, eight.batch_stats, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(rows_one, rows_eight, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(one.params, eight.params, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_loss_is_that_of_the_views_embedded_one_by_one(tiny_config, small_encoder, trained, make_views):
    experiment = _experiment(tiny_config(), encoder=small_encoder())
    state = jax.device_get(build.make_state(experiment))
    batch = next(build.make_batches(experiment, 0))
    views, shared, *_ = make_views(experiment, batch)
    encode = jax.jit(lambda x: experiment.encoder.apply(state.variables, x, train=True, mutable=["batch_stats"])[0][1])
    z1, z2, e1, e2 = (encode(view) for view in (*views, *shared))
    contrast = jax.jit(losses.info_nce)(z1, z2, temperature=0.5)
    rotation = jax.jit(losses.equivariance_loss, static_argnames="num_groups")(e1, e2, num_groups=4)
    _, rows = trained(1)
    np.testing.assert_allclose(rows[0]["info_nce"], contrast, rtol=1e-5)
    np.testing.assert_allclose(rows[0]["equivariance"], rotation, rtol=1e-4)
    np.testing.assert_allclose(rows[0]["loss"], contrast + 0.1 * rotation, rtol=1e-5)


def test_lambda_zero_makes_no_equivariance_views(tiny_config, make_views):
    experiment = _experiment(tiny_config(equivariance__weight=0.0))
    views = jax.eval_shape(functools.partial(make_views, experiment), next(build.make_batches(experiment, 0)))
    assert views.invariance is not None and views.equivariance is None


@pytest.mark.slow
def test_equivariance_on_the_first_images_alone(tiny_config, make_views):
    """Traced only: accumulation_test trains such a step with a smaller encoder."""
    experiment = _experiment(tiny_config(equivariance__batch_size=16, equivariance__num_groups=2))
    batch = next(build.make_batches(experiment, 0))
    views = jax.eval_shape(functools.partial(make_views, experiment), batch)
    assert views.invariance.shape == (2, 32, 16, 16, 3)
    assert views.equivariance.shape == (2, 16, 16, 16, 3)
    _, metrics = jax.eval_shape(build.make_step(experiment), build.abstract_state(experiment), batch)
    assert {"info_nce", "equivariance"} <= metrics.keys()


def test_images_of_a_group_share_their_draw(tiny_config, make_views):
    """The same image all over the batch: equal views inside a group, other views in the next."""
    experiment = _experiment(tiny_config())
    batch = next(build.make_batches(experiment, 0))
    same = {**batch, "indices": jnp.zeros_like(batch["indices"])}
    views, shared, *_ = make_views(experiment, same)
    groups = np.asarray(shared[0]).reshape(4, 8, -1)
    assert np.ptp(groups, axis=1).max() < 1e-6
    assert all(np.abs(groups[i, 0] - groups[j, 0]).max() > 0.01 for i in range(4) for j in range(i))
    assert np.ptp(np.asarray(views[0]).reshape(32, -1), axis=0).max() > 0.1
    assert np.abs(shared[0] - shared[1]).max() > 0.1


@pytest.mark.slow
def test_metrics_report_the_gradient_and_the_rate(trained):
    state, rows = trained(1)
    assert int(state.step) == 3
    assert all(row["learning_rate"] == np.float32(0.01) for row in rows)
    assert all(np.isfinite(row["gradient_norm"]) and row["gradient_norm"] > 0 for row in rows)


@pytest.mark.slow
def test_decode_makes_the_views_of_device(tiny_config):
    jitter = {"augment__invariance__jitter_probability": 0.8, "augment__equivariance__jitter_probability": 0.8}
    views = {}
    for placement in ("device", "decode"):
        experiment = _experiment(tiny_config(augment__placement=placement, **jitter))
        batch = next(build.make_batches(experiment, 0))
        plan, make = experiment.plan, PLACEMENTS[placement]
        # As users have it: with tests/environment.py's flag three pixels of "decode" are off by more than rounding.
        compiled = jax.jit(
            lambda batch, plan=plan, make=make: make(plan, batch, plan.uniforms(0)), compiler_options=AS_USUAL
        )
        views[placement] = compiled(batch)[:2]
    for device, decode in zip(views["device"], views["decode"], strict=True):
        np.testing.assert_allclose(decode, device, atol=1e-5)
        assert np.abs(device[0] - device[1]).mean() > 0.1
