"""The online probe that a configuration asks for."""

import jax
import jax.numpy as jnp

from care_jax.augment import input_shape
from care_jax.data import CLASS
from care_jax.devices import sharding
from care_jax.experiment.build import Experiment, abstract_state
from care_jax.experiment.config import ConfigError
from care_jax.train.online_probe import OnlineProbe, ProbeState


def make_probe(experiment: Experiment) -> tuple[OnlineProbe, ProbeState] | None:
    """What `evaluate.online_probe` asks for, and its state on every device; None where it is off.

    Raises:
      ConfigError: the images that are trained on have no classes.
    """
    if not experiment.config.evaluate.online_probe:
        return None
    dataset = experiment.dataset
    if CLASS not in dataset.pretrain.labels:
        raise ConfigError(
            f"config.evaluate.online_probe is True, but the {dataset.pretrain.noun} of {dataset.name} that are trained "
            "on have no labels, or not all of them: leave it off"
        )
    probe = OnlineProbe(dataset.num_classes[CLASS])
    images = jax.ShapeDtypeStruct((2, *input_shape(experiment.plan.invariance)), jnp.float32)
    features, _ = jax.eval_shape(
        lambda state, images: experiment.encoder.apply(state.variables, images), abstract_state(experiment), images
    )
    init = jax.jit(probe.init, static_argnums=0, out_shardings=sharding.replicated(experiment.mesh))
    return probe, init(features.shape[-1])
