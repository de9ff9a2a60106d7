"""From a configuration to its objective: which base, which equivariance term, and which of them go together."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from care_jax.augment import AugmentSpec
from care_jax.experiment.architecture import DTYPES, make_encoder, make_head
from care_jax.experiment.config import ConfigError
from care_jax.methods import METHODS, TERMS, Method, Objective, Term

# Settings of `loss` that a method has or has not; None leaves the method's own default.
_OWN_SETTINGS = (
    "momentum",
    "queue_size",
    "off_diagonal_weight",
    "invariance_weight",
    "variance_weight",
    "covariance_weight",
)
# Settings of `equivariance` that are of care alone -> what leaves them alone.
_CARES_SETTINGS = {"on": "projection", "group": "orthogonal", "batch_size": None}


def check_objective(config: ml_collections.ConfigDict) -> None:
    """Refuses settings that do not go together.

    Raises:
      ConfigError: one line that says what to change.
    """
    method, equivariance = config.loss.method, config.equivariance
    for setting in _OWN_SETTINGS:
        value = config.loss[setting]
        if value is not None and not _takes(METHODS[method], setting):
            others = " or ".join(name for name, factory in METHODS.items() if _takes(factory, setting))
            raise ConfigError(
                f"config.loss.{setting} is {value}, but {method} has none; leave it without a value (None), or use "
                f"config.loss.method={others}"
            )
    if not equivariance.weight:
        if method == "none":
            raise ConfigError(
                "config.loss.method is 'none' and config.equivariance.weight 0: nothing to minimise; raise the weight"
            )
        return
    term = equivariance.term
    if term != "care":
        for setting, neutral in _CARES_SETTINGS.items():
            if equivariance[setting] != neutral:
                raise ConfigError(
                    f"config.equivariance.{setting} is {equivariance[setting]!r}, which is care's alone; with "
                    f"config.equivariance.term={term} leave it {neutral!r}"
                )
        if config.augment.placement != "device":
            raise ConfigError(
                f"config.equivariance.term is {term!r}, which needs the drawn augmentations and further views; use "
                f"config.augment.placement=device, not {config.augment.placement!r}"
            )
    rotation = config.augment.invariance.rotation_degrees
    if term == "essl" and rotation:
        raise ConfigError(
            f"config.augment.invariance.rotation_degrees is {rotation:g}, but essl tells how far an image was turned; "
            "make it 0, or use another config.equivariance.term"
        )
    if term == "care" and equivariance.group == "symplectic":
        size = config.model.head_size
        if equivariance.on == "features":
            size = _num_features(config)
        if size % 2:
            name = "the number of features" if equivariance.on == "features" else "config.model.head_size"
            raise ConfigError(
                f"config.equivariance.group is 'symplectic', whose form needs an even dimension, but {name} is {size}; "
                "make it even"
            )


def make_objective(config: ml_collections.ConfigDict, spec: AugmentSpec, *, num_steps: int) -> Objective:
    """The objective that a configuration names.

    Args:
      config: checked.
      spec: ranges of the independent views.
      num_steps: length of the run.
    """
    model = config.model
    dtype = DTYPES[model.dtype]
    pieces: dict[str, Any] = {
        "predictor": make_head(config, output_batch_norm=False),
        "equivariance_head": make_head(config, output_batch_norm=model.head_batch_norm),
        "num_steps": num_steps,
        "spec": spec,
        "batch_norm": model.head_batch_norm,
        "dtype": dtype,
        # Heads that read features are as wide as the projection head, and as deep as their papers' two hidden layers.
        "hidden_sizes": tuple(model.head_hidden_sizes[:1]) * 2,
    }
    own = {name: config.loss[name] for name in _OWN_SETTINGS if config.loss[name] is not None}
    factory = METHODS[config.loss.method]
    method: Method = factory(**_accepted(factory, pieces | own | {"temperature": config.loss.temperature}))
    if not config.equivariance.weight:
        return Objective(method)
    chosen = {name: config.equivariance[name] for name in ("num_groups", "on", "group")}
    make_term = TERMS[config.equivariance.term]
    term: Term = make_term(**_accepted(make_term, pieces | chosen))
    return Objective(method, term, config.equivariance.weight)


def _takes(factory: Any, setting: str) -> bool:
    return setting in inspect.signature(factory).parameters


def _accepted(factory: Any, pieces: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pieces.items() if _takes(factory, name)}


def _num_features(config: ml_collections.ConfigDict) -> int:
    size = config.data.image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    backbone = make_encoder(config).backbone
    features, _ = jax.eval_shape(lambda x: backbone.init_with_output(jax.random.key(0), x), images)
    return features.shape[-1]
