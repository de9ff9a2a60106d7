"""What an augmentation that is swept is: one number, its strength, of which 0 leaves an input as it is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Sweep(NamedTuple):
    """An augmentation and the strengths that it is taken at.

    Attributes:
      meaning: of a strength, in words.
      strengths: taken where the user names none.
      low, high: what a strength may be.
      changed: (the identity, strengths [b], side of the output in pixels; of clouds 0) -> the fields that change.
      enabled: settings of a spec that compile it in, for strengths up to the largest and a side of the output.
      composes: whether strength s and then strength t is strength s + t.
    """

    meaning: str
    strengths: tuple[float, ...]
    low: float
    high: float
    changed: Callable[[Any, jax.Array, int], dict[str, Any]]
    enabled: Callable[[float, int], dict[str, Any]]
    composes: bool = False
