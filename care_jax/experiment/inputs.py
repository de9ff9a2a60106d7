"""What a configuration trains on, images or clouds of points: the ranges of its draws, and the shape of an input."""

from typing import Any

import ml_collections

from care_jax.augment import AugmentSpec, CloudSpec, Spec
from care_jax.experiment.settings import ConfigError, of_clouds


def augment_spec(config: ml_collections.ConfigDict, branch: str) -> Spec:
    """The ranges of a branch, "invariance" or "equivariance", with the sizes and colours of the data set.

    Raises:
      ConfigError: one is out of its range.
    """
    settings = config.augment[branch].to_dict()
    try:
        if of_clouds(config):
            return CloudSpec(**settings)
        return AugmentSpec.from_settings(
            settings, size=config.data.image_size, mean=tuple(config.data.mean), std=tuple(config.data.std)
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.augment.{branch}: {error}") from error


def evaluation_spec(config: ml_collections.ConfigDict) -> Spec:
    """What evaluation sees, nothing drawn: the central square, normalised; a cloud as it is."""
    if of_clouds(config):
        return CloudSpec()
    return AugmentSpec(
        size=config.data.image_size,
        crop="center",
        center_fraction=config.evaluate.center_fraction,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        flip_probability=0.0,
        jitter_probability=0.0,
        grayscale_probability=0.0,
        blur_probability=0.0,
    )


def check_embedded(config: ml_collections.ConfigDict, *, clouds: bool) -> None:
    """Whether the backbone embeds what a data set is of.

    Args:
      config: names both.
      clouds: whether the data set is of clouds of points.

    Raises:
      ConfigError: it embeds the other.
    """
    if clouds and not of_clouds(config):
        raise ConfigError(
            f"config.data.name is {config.data.name!r}, a data set of clouds of points, but config.model.backbone is "
            f"{config.model.backbone!r}, which embeds images; start from configs/proteins.py"
        )
    if not clouds and of_clouds(config):
        raise ConfigError(
            f"config.model.backbone is {config.model.backbone!r}, which embeds clouds of points, but config.data.name "
            f"is {config.data.name!r}, a data set of images; start from configs/digits.py for instance"
        )


def resident_shape(config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """Of an input that is kept in memory: (h, w, 3), or (L, 4)."""
    if of_clouds(config):
        return max(config.data.window_lengths), 4
    side = stored_side(config)
    return side, side, 3


def stored_side(config: ml_collections.ConfigDict) -> Any:
    """Of images that are kept in memory, pixels."""
    return config.data.image_size if config.data.stored_size is None else config.data.stored_size
