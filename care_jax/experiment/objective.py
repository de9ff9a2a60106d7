"""From a configuration to its objective: which base, which equivariance term, and which of them go together."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import ml_collections

from care_jax.augment import Spec, input_shape
from care_jax.experiment.architecture import dtype_of, make_encoder, make_head
from care_jax.experiment.config import ConfigError
from care_jax.experiment.settings import of_clouds
from care_jax.methods import METHODS, TERMS, Method, Objective, Pieces, Term, settings_of


def make_objective(config: ml_collections.ConfigDict, spec: Spec, *, num_steps: int) -> Objective:
    """The objective that a configuration names.

    Args:
      config: validated.
      spec: ranges of the invariance views.
      num_steps: length of the run.

    Raises:
      ConfigError: settings do not go together; one line that says what to change.
    """
    equivariance = config.equivariance
    pieces = Pieces(
        spec=spec,
        num_steps=num_steps,
        num_groups=equivariance.num_groups,
        head=partial(make_head, config),
        batch_norm=config.model.head_batch_norm,
        dtype=dtype_of(config),
        num_features=partial(_num_features, config, spec),
    )
    method = _made(METHODS, "loss", "method", config.loss, pieces)
    if not equivariance.weight:
        if config.loss.method == "none":
            raise ConfigError(
                "config.loss.method is 'none' and config.equivariance.weight 0: nothing to minimise; raise the weight"
            )
        return Objective(method)
    _check_views(config)
    if of_clouds(config) and (why := TERMS[equivariance.term].only_images):
        others = ", ".join(name for name, term in TERMS.items() if not term.only_images)
        raise ConfigError(
            f"config.equivariance.term is {equivariance.term!r}, which {why}; for clouds of points there are {others}"
        )
    term = _made(TERMS, "equivariance", "term", equivariance, pieces)
    objective = Objective(method, term, equivariance.weight)
    try:
        _ = objective.heads
    except ValueError as error:
        raise ConfigError(f"{config.loss.method} with {equivariance.term}: {error}") from error
    return objective


Made = TypeVar("Made", Method, Term)


def _made(
    registry: Mapping[str, type[Made]],
    section: str,
    chooser: str,
    values: ml_collections.ConfigDict,
    pieces: Pieces,
) -> Made:
    """What the section of the configuration chooses, with those of its settings that have a value."""
    chosen = registry[values[chooser]]
    for name, own in settings_of(registry).items():
        unset = own.default if own.stated else None
        if name not in chosen.settings and not own.ignorable and values[name] != unset:
            others = " or ".join(other for other, cls in registry.items() if name in cls.settings)
            leave = f"leave it {own.default!r}" if own.stated else "leave it without a value (None)"
            raise ConfigError(
                f"config.{section}.{name} is {values[name]!r}, but {chosen.name} has none; {leave}, or use "
                f"config.{section}.{chooser}={others}"
            )
    given: dict[str, Any] = {name: values[name] for name in chosen.settings if values[name] is not None}
    try:
        return chosen.make(pieces, **given)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_views(config: ml_collections.ConfigDict) -> None:
    """Whether the run makes the views that the term needs."""
    term, batch_size = TERMS[config.equivariance.term], config.equivariance.batch_size
    if "equivariance" not in term.needs and batch_size is not None:
        raise ConfigError(
            f"config.equivariance.batch_size is {batch_size}, but {term.name} has no equivariance views; leave it "
            "without a value (None)"
        )
    if set(term.needs) - {"equivariance"} and config.augment.placement != "device":
        raise ConfigError(
            f"config.equivariance.term is {term.name!r}, which needs the drawn augmentations and further views; use "
            f"config.augment.placement=device, not {config.augment.placement!r}"
        )


def _num_features(config: ml_collections.ConfigDict, spec: Spec) -> int:
    images = jax.ShapeDtypeStruct((2, *input_shape(spec)), jnp.float32)
    backbone = make_encoder(config).backbone
    features, _ = jax.eval_shape(lambda x: backbone.init_with_output(jax.random.key(0), x), images)
    return features.shape[-1]
