"""Mean and standard deviation of a data set's own images, by channel."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from care_jax import augment
from care_jax.augment import AugmentSpec
from care_jax.data.errors import DataError
from care_jax.data.examples import Examples
from care_jax.data.in_order import batches_in_order
from care_jax.data.skipped import SkippedFiles

SAMPLE = 10_000  # images; of more, as many are drawn, the same ones each time
_BATCH_SIZE = 250
_DIGITS = 4  # that are kept: what is printed is what is used

Channels = tuple[float, float, float]


class Colors(NamedTuple):
    """Of images in [0, 1], by channel, over all pixels."""

    mean: Channels
    std: Channels


def colors(examples: Examples, spec: AugmentSpec, skipped: SkippedFiles | None = None) -> Colors:
    """Mean and standard deviation of images as an evaluation sees them, to four digits.

    Args:
      examples: n images, resident or encoded; of more than `SAMPLE` a part.
      spec: the evaluation's: its size and `center_fraction`; its own mean and deviation are left out.
      skipped: where unreadable images are counted.

    Raises:
      DataError: no image can be read, or a channel is the same everywhere.
    """
    if len(examples) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(len(examples), SAMPLE, replace=False))
        examples = examples.take(rows)
    spec = dataclasses.replace(spec, mean=(0.0,) * 3, std=(1.0,) * 3)
    count, sums, squares = 0, np.zeros(3), np.zeros(3)
    side = round(spec.size / spec.center_fraction)
    batch_size = min(_BATCH_SIZE, len(examples))
    for images, _, mask in batches_in_order(examples, side=side, batch_size=batch_size, skipped=skipped):
        seen = np.asarray(_seen(images, spec=spec), np.float64)[mask].reshape(-1, 3)
        count += len(seen)
        sums += seen.sum(0)
        squares += np.square(seen).sum(0)
    if not count:
        raise DataError(f"none of {len(examples)} training images could be read, to compute data.mean and data.std")
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    if std.min() < 0.5 * 10**-_DIGITS:
        raise DataError(
            f"the training images have one value throughout in channel {int(std.argmin())} (mean "
            f"{mean.round(_DIGITS).tolist()}, deviation {std.round(_DIGITS).tolist()}): give --config.data.std=(1,1,1)"
        )
    return Colors(_rounded(mean), _rounded(std))


@partial(jax.jit, static_argnames="spec")
def _seen(images: jax.Array, *, spec: AugmentSpec) -> jax.Array:
    height, width = images.shape[1:3]
    return augment.apply(augment.identity(spec, height=height, width=width), images, spec)


def _rounded(values: np.ndarray) -> Channels:
    first, second, third = (round(float(value), _DIGITS) for value in values)
    return first, second, third
