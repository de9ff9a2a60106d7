"""What a measure is and what an evaluator is; an evaluator is a file beside this one and a line in `evaluators.py`."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from care_jax.data import CLASS
from care_jax.errors import UserError, printable
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.metrics.heldout import is_number


class Measure(NamedTuple):
    """What a number of summary.json is.

    Attributes:
      meaning: in words, without unit.
      unit: empty for a pure number.
      better: "higher", "lower", or empty where neither is.
      chance: the level of an encoder that knows nothing, in words; empty where there is none.
      heading: its name above a column or a curve; empty for the name in summary.json.
      decimals: shown in tables.
      headline: whether it is shown when a run ends.
    """

    meaning: str
    unit: str = ""
    better: str = ""
    chance: str = ""
    heading: str = ""
    decimals: int = 3
    headline: bool = False


class Missing(NamedTuple):
    """In place of a number that can't be taken, and why: null in summary.json, and a line for the user."""

    reason: str


SEVERAL = Missing("needs at least 2 test images, there is 1")
UNTRAINED = Missing("nothing in this objective trains the projection head, whose outputs embeddings are")

# By the names of measures; None where the data set lacks the labelling, NaN where the embeddings are broken.
Numbers = dict[str, float | int | Missing | None]


class NumberError(UserError, TypeError):
    """What an evaluator gives is no number."""


class Evaluator(NamedTuple):
    """A way to judge an encoder.

    Attributes:
      measures: labellings -> its table, name -> `Measure`.
      run: (embedded data set, `config.evaluate`) -> its numbers, by names of that table. Accuracies in percent. Floats
        are drawn as curves where it monitors training; counts are ints. Scalars of NumPy or JAX become these.
      of_embeddings: whether its numbers are of the embeddings, but for those that begin with `features_`.
    """

    measures: Callable[[Iterable[str]], dict[str, Measure]]
    run: Callable[[EmbeddedDataSet, Any], Numbers]
    of_embeddings: bool = False

    def numbers(self, embedded: EmbeddedDataSet, settings: Any) -> Numbers:
        """What `run` gives, once; and of embeddings that nothing has trained, why it is not told.

        Raises:
          NumberError: something that it gives is no number.
        """
        found = {name: self._plain(name, value) for name, value in embedded.once(self.run, settings).items()}
        if not self.of_embeddings or embedded.experiment.objective.projects:
            return found
        return {
            name: value if value is None or name.startswith("features_") else UNTRAINED for name, value in found.items()
        }

    def _plain(self, name: str, value: Any) -> float | int | Missing | None:
        """As JSON and the curves have it."""
        if value is None or isinstance(value, Missing | int | float):
            return value
        if isinstance(value, np.generic | np.ndarray | jax.Array) and not value.shape and is_number(value.dtype):
            return int(value) if np.issubdtype(value.dtype, np.integer) else float(value)
        of = f" of shape {list(value.shape)}" if isinstance(value, np.ndarray | jax.Array) else ""
        where = f"{getattr(self.run, '__module__', '')}.{getattr(self.run, '__qualname__', self.run)}"
        raise NumberError(
            f"the evaluator {where} gives {name} = {printable(repr(value))[:60]}, a {type(value).__name__}{of}; make "
            "it a float, an int, None, or a Missing with the reason"
        )


def prefix(labelling: str, of_class: str = "") -> str:
    """What a measure's name begins with that is taken for every labelling.

    >>> [f"{prefix(labelling, 'linear_')}probe_top1" for labelling in ("class", "hue")]
    ['linear_probe_top1', 'hue_probe_top1']
    """
    return of_class if labelling == CLASS else f"{labelling}_"
