"""The classifier beside the encoder: it learns, the encoder learns nothing of it, and a batch's labels are its own."""

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
from care_jax.train.step import repeat


def test_it_learns_and_says_what_it_knew_before_it_was_told():
    labels = np.arange(12, dtype=np.int32) % 3
    features = np.stack([np.eye(3, dtype=np.float32)[labels]] * 2)  # of two views
    probe = OnlineProbe(3)
    state, update = probe.init(3), jax.jit(probe.update)
    told = []
    for _ in range(3):
        state, top1 = update(state, features, labels)
        told.append(float(top1))
    assert told == [pytest.approx(100 / 3), 100.0, 100.0]


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["device"])
def test_the_encoder_has_the_same_bits_with_it_and_without(tiny_config, small_encoder, placement):
    """Two steps in one call, on eight devices, in micro-batches."""
    found = {}
    for online in (False, True):
        config = tiny_config(augment__placement=placement, train__micro_batches=2, evaluate__online_probe=online)
        experiment = build.build(config)._replace(encoder=small_encoder())
        made = make_probe(experiment)
        step = jax.jit(
            repeat(build.make_step(experiment, made[0] if made else None)),
            donate_argnums=0,
            out_shardings=sharding.replicated(experiment.mesh),
        )
        step = Beside(step, made[1]) if made else step
        (batch,) = build.make_stacked_batches(experiment, 3, [2])
        if online:
            labels = experiment.dataset.pretrain.labels["class"]
            np.testing.assert_array_equal(batch["labels"], labels[np.asarray(batch["indices"])])
        state, metrics = step(build.make_state(experiment), batch)
        found[online] = params_sha256(jax.device_get((state.params, state.batch_stats, state.optimizer_state)))
        assert ("online_probe_top1" in metrics) == online
    assert metrics["online_probe_top1"].shape == (2,) and 0 <= metrics["online_probe_top1"][1] <= 100
    assert found[True] == found[False]


def test_images_without_labels_are_one_line(tiny_config):
    experiment = build.build(tiny_config(evaluate__online_probe=True))
    object.__setattr__(dataset := experiment.dataset, "pretrain", Examples(dataset.pretrain.images))
    with pytest.raises(ConfigError, match=r"online_probe is True, but the images of digits .* have no labels"):
        make_probe(experiment)
