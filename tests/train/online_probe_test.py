"""The classifier beside the encoder: it learns, the encoder learns nothing of it, and a batch's labels are its own."""

from functools import partial

import jax
import numpy as np
import pytest

from care_jax.data import Examples
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.experiment.online_probe import make_probe
from care_jax.train.online_probe import Beside, OnlineProbe
from care_jax.train.state import params_sha256
from tests.environment import AS_USUAL


def test_it_learns_and_says_what_it_knew_before_it_was_told():
    labels = np.arange(12, dtype=np.int32) % 3
    features = np.stack([np.eye(3, dtype=np.float32)[labels]] * 2)  # of two views
    probe = OnlineProbe(3)
    state, update = probe.init(3), jax.jit(probe.update)
    told = []
    for _ in range(3):
        state, top1 = update(state, features, labels)
        told.append(float(top1))
    assert told == pytest.approx([100 / 3, 100.0, 100.0])


@pytest.mark.slow
def test_the_encoder_has_the_same_bits_with_it_and_without(tiny_config, small_encoder):
    """On two devices, of views that are given."""
    config = tiny_config(augment__placement="host", evaluate__online_probe=True)
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:2]))._replace(encoder=small_encoder())
    plan, over = experiment.plan, partial(sharding.along_axis, experiment.mesh)
    rng = np.random.default_rng(0)
    images = plan.batch_size, plan.equivariance_batch_size
    invariance, equivariance = (rng.normal(size=(2, count, 16, 16, 3)).astype(np.float32) for count in images)
    batch = {
        "invariance_views": jax.device_put(invariance, over(1)),
        "equivariance_views": jax.device_put(equivariance, over(1)),
        "labels": jax.device_put(rng.integers(10, size=images[0]).astype(np.int32), over(0)),
    }
    probe, probe_state = make_probe(experiment)
    start = build.make_state(experiment)
    found = []
    for online in (False, True):
        whole = sharding.replicated(experiment.mesh)
        step = build.make_step(experiment, probe if online else None)
        step = jax.jit(step, out_shardings=whole, compiler_options=AS_USUAL)
        step = Beside(step, probe_state) if online else step
        state, metrics = step(start, batch)
        found.append(params_sha256(jax.device_get((state.params, state.batch_stats, state.optimizer_state))))
        assert ("online_probe_top1" in metrics) == online
    assert 0 < metrics["online_probe_top1"] < 100  # of zeros: those of the first class
    assert (
        found[1] == found[0] != params_sha256(jax.device_get((start.params, start.batch_stats, start.optimizer_state)))
    )


def test_labels_are_those_of_the_images(tiny_config):
    experiment = build.build(tiny_config(evaluate__online_probe=True, train__num_steps=46))
    for count, batch in zip((2, 1), build.make_stacked_batches(experiment, 43, (2, 1)), strict=True):
        assert batch["labels"].shape == (count, experiment.plan.batch_size)
        labels = experiment.dataset.pretrain.labels["class"]
        np.testing.assert_array_equal(batch["labels"], labels[np.asarray(batch["indices"])])


def test_images_without_labels_are_one_line(tiny_config):
    experiment = build.build(tiny_config(evaluate__online_probe=True, train__num_steps=46))
    object.__setattr__(dataset := experiment.dataset, "pretrain", Examples(dataset.pretrain.images))
    with pytest.raises(ConfigError, match=r"online_probe is True, but the images of digits .* have no labels"):
        make_probe(experiment)
