"""The step of a run as a compiled program."""

from collections.abc import Callable
from typing import Any

import jax

from care_jax.data import Examples
from care_jax.devices import compilation_cache, sharding
from care_jax.experiment import build
from care_jax.train.batches import abstract_batches
from care_jax.train.online_probe import OnlineProbe, ProbeState
from care_jax.train.placements import BATCH_AXES, Batch
from care_jax.train.state import TrainState
from care_jax.train.step import Metrics, repeat

Shape = tuple[int, ...]
Probe = tuple[OnlineProbe, ProbeState]


def step(experiment: build.Experiment, probe: OnlineProbe | None = None) -> Any:
    """Several updates in one call, jitted; with a probe, of its state too."""
    return jax.jit(
        repeat(build.make_step(experiment, probe)),
        donate_argnums=0,
        # Every process can then read the metrics and save the state.
        out_shardings=sharding.replicated(experiment.mesh),
    )


def arguments(experiment: build.Experiment, image_shape: Shape | None, count: int = 1) -> tuple[TrainState, Batch]:
    """State and batches of a call, without their numbers.

    Args:
      experiment: of the run.
      image_shape: [h, w, 3] of images that are in memory, [L, 4] of clouds; None: they are encoded.
      count: steps in the call.
    """
    batches = abstract_batches(
        experiment.plan,
        experiment.mesh,
        placement=experiment.config.augment.placement,
        num_examples=len(experiment.dataset.pretrain),
        image_shape=image_shape,
        count=count,
        labelled=experiment.config.evaluate.online_probe,
    )
    return build.abstract_state(experiment), batches


def lower(experiment: build.Experiment, image_shape: Shape | None, count: int = 1, probe: Probe | None = None) -> Any:
    """The call, before it is compiled; with a probe and its state, of both states."""
    state, batches = arguments(experiment, image_shape, count)
    if probe is None:
        return step(experiment).lower(state, batches)
    return step(experiment, probe[0]).lower((state, probe[1]), batches)


class CompiledSteps:
    """What the training loop calls: (state, batches) -> (state, metrics), compiled before there is a state.

    A shape or a type that changes from step to step is an error, where `jit` would compile once more.

    Args:
      experiment: its data set too.
      tell: says that one is compiled, and how long that takes.
      probe: trained beside, and its state; what is called takes a pair of states then.

    Attributes:
      experiment: as given.
    """

    def __init__(self, experiment: build.Experiment, *, tell: Callable[[str], None], probe: Probe | None = None):
        self.experiment = experiment
        self._probe = probe
        self._tell = tell
        self._programs: dict[int, Any] = {}

    def __call__(self, state: Any, batches: Batch) -> tuple[Any, Metrics]:
        """As many updates as there are batches."""
        return self.compile(_count(batches))(state, batches)

    def prepare(self, state: TrainState, batches: Batch) -> None:
        """Compiles the program for as many steps as there are batches, if it is not yet."""
        del state
        self.compile(_count(batches))

    def compile(self, count: int) -> Any:
        """The program of calls that make so many steps; compiled when it is first asked for."""
        if count not in self._programs:
            lowered = lower(self.experiment, _image_shape(self.experiment.dataset.pretrain), count, self._probe)
            what = "the training step" if count == 1 else f"{count} training steps in one call"
            with compilation_cache.compiling(lowered, what, tell=self._tell):
                self._programs[count] = lowered.compile()
        return self._programs[count]


def _count(batches: Batch) -> int:
    return next(len(x) for name, x in batches.items() if name in BATCH_AXES)


def _image_shape(examples: Examples) -> Shape | None:
    return examples.pixels.shape[1:] if examples.resident else None
