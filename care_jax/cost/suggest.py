"""The largest batch that fits, by few compilations."""

import math
from collections.abc import Callable
from typing import NamedTuple

import ml_collections

from care_jax.errors import UserError

# A larger batch by less than this share is not looked for.
_PRECISION = 16


class Tried(NamedTuple):
    """One compilation.

    Attributes:
      batch_size: images over all devices.
      fits: whether it compiles and its peak is within the device's memory.
      peak: bytes a device; None where the compiler does not say.
      reason: why it does not compile; empty if it does.
    """

    batch_size: int
    fits: bool
    peak: int | None
    reason: str = ""


class SuggestError(UserError, ValueError):
    """There is nothing to suggest."""


def unit(config: ml_collections.ConfigDict, num_devices: int) -> int:
    """The batch must be a multiple of this: devices and micro-batches divide it, and the groups where all share it.

    At any weight of the equivariance term, as configurations are checked.
    """
    shared = num_devices * config.train.micro_batches
    return shared if config.equivariance.batch_size is not None else math.lcm(shared, config.equivariance.num_groups)


def least(config: ml_collections.ConfigDict) -> int:
    """The smallest batch that makes sense: the equivariance term's part of it, or groups of two."""
    part: int | None = config.equivariance.batch_size
    return 2 * config.equivariance.num_groups if part is None else part


def largest(
    try_batch: Callable[[int], Tried], available: int, *, start: int, unit: int, least: int, most: int
) -> list[Tried]:
    """Tries batches until the largest that fits is known to within a sixteenth, or to within a unit.

    It doubles or halves; once two peaks are known it goes where the line through them meets the memory.

    Args:
      try_batch: compiles for a batch.
      available: bytes of memory a device.
      start: the first batch.
      unit: of which batches are multiples.
      least, most: batches that make sense.

    Returns:
      What was tried, in order; the largest that fits, if there is one, is the answer.
    """
    least, most = -(-least // unit) * unit, most // unit * unit
    if most < least:
        raise SuggestError(
            f"no batch between {least} and {most} is a multiple of {unit}, as devices, micro-batches and groups ask for"
        )
    tried: list[Tried] = []
    batch = min(max(start // unit * unit, least), most)
    while True:
        tried.append(try_batch(batch))
        fit = max((one.batch_size for one in tried if one.fits), default=0)
        misfit = min((one.batch_size for one in tried if not one.fits), default=most + unit)
        if fit >= most or misfit <= least or misfit - fit <= max(unit, fit // _PRECISION):
            return tried
        guess, bracketed = _meeting(tried, available), fit and misfit <= most
        too_much = [one.peak for one in tried if not one.fits and one.peak is not None]
        if bracketed and (guess is None or not too_much or len(tried) % 2):  # peaks need not lie on a line
            guess = (fit + misfit) / 2
        elif guess is None:
            guess = 2 * fit or misfit / 2
        # A step of the precision from either end, so that the next answer may be the last.
        step = max(unit, fit // _PRECISION // unit * unit)
        low, high = max(fit + step, least), max(misfit - step, least)
        batch = min(max(int(guess) // unit * unit, low), high, most)


def _meeting(tried: list[Tried], available: int) -> float | None:
    """Where a line through two known peaks meets the memory: those on either side of it, else the farthest apart."""
    known = {one.batch_size: one.peak for one in tried if one.peak is not None}
    if len(known) < 2:
        return None
    below = [batch for batch in known if known[batch] <= available]
    above = [batch for batch in known if known[batch] > available]
    low, high = (max(below), min(above)) if below and above else (min(known), max(known))
    slope = (known[high] - known[low]) / (high - low)
    return low + (available - known[low]) / slope if slope > 0 else None
