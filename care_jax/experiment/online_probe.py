"""The online probe that a configuration asks for."""

import jax
import jax.numpy as jnp

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
    if CLASS not in experiment.dataset.pretrain.labels:
        raise ConfigError(
            f"config.evaluate.online_probe is True, but the images of {experiment.dataset.name} that are trained on "
            "have no labels, or not all of them: leave it off"
        )
    probe = OnlineProbe(experiment.dataset.num_classes[CLASS])
    size = experiment.config.data.image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    features, _ = jax.eval_shape(
        lambda state, images: experiment.encoder.apply(state.variables, images), abstract_state(experiment), images
    )
    init = jax.jit(probe.init, static_argnums=0, out_shardings=sharding.replicated(experiment.mesh))
    return probe, init(features.shape[-1])
