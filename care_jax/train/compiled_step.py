"""The step, compiled before it is called: that takes long, so it is said, and it is no step's time."""

from collections.abc import Callable

import jax

from care_jax.devices import compilation_cache
from care_jax.train.placements import BATCH_AXES, Batch
from care_jax.train.state import TrainState
from care_jax.train.step import Metrics


class CompiledStep:
    """A jitted `step.repeat`, compiled once for each number of steps that a call makes.

    Args:
      step: the jitted function.
      tell: says that it compiles, and how long that takes.
    """

    def __init__(self, step: jax.stages.Wrapped, *, tell: Callable[[str], None]):
        self._step = step
        self._tell = tell
        self._programs: dict[int, jax.stages.Compiled] = {}

    def prepare(self, state: TrainState, batch: Batch) -> None:
        """Compiles it for as many steps as the batch has, if it is not yet."""
        count = _count(batch)
        if count in self._programs:
            return
        lowered = self._step.lower(state, batch)
        what = "the training step" if count == 1 else f"{count} training steps in one call"
        with compilation_cache.compiling(lowered, what, tell=self._tell):
            self._programs[count] = lowered.compile()

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """(state, batch) -> (state after the steps, metrics [k] of each); prepared before."""
        return self._programs[_count(batch)](state, batch)


def _count(batch: Batch) -> int:
    return next(len(array) for name, array in batch.items() if name in BATCH_AXES)
