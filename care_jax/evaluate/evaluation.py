"""The evaluations of one run: the monitors during training, and everything at the end."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from care_jax import fits
from care_jax.command_line import say
from care_jax.data import CLASS, Examples
from care_jax.devices.distributed import is_first
from care_jax.evaluate.embedded import EmbeddedDataSet, make_embedder
from care_jax.evaluate.evaluators import EVALUATORS
from care_jax.evaluate.measure import Missing
from care_jax.experiment.build import Experiment
from care_jax.experiment.config import ConfigError
from care_jax.experiment.settings import of_clouds


class Measured(NamedTuple):
    """What was measured.

    Attributes:
      numbers: by the names of summary.json; None where there is nothing to measure.
      notes: lines for the user: which measures could not be taken, and why; what was taken otherwise than set.
    """

    numbers: dict[str, Any]
    notes: tuple[str, ...] = ()


class Evaluation:
    """Judges the encoders of a run. What it compiled is kept, and what it made at the newest step.

    Args:
      experiment: its data, networks and settings.
      check: called before each batch that is embedded; raises what ends the evaluation.
    """

    def __init__(self, experiment: Experiment, check: Callable[[], None] = lambda: None):
        self.experiment = experiment
        self._make = functools.cache(functools.partial(make_embedder, experiment, check))
        self._newest: tuple[int, EmbeddedDataSet] | None = None

    def embedded(self, step: int, variables: Mapping[str, Any]) -> EmbeddedDataSet:
        """The data set as the encoder sees it at a step: made once, and let go when another step's is asked for.

        Args:
          step: updates made.
          variables: then, of all networks.
        """
        if self._newest is None or self._newest[0] != step:
            self._newest = None  # before the next is made
            self._newest = step, EmbeddedDataSet(self.experiment, self._make, variables)
        return self._newest[1]

    def monitor(self, every: int) -> Callable[[int, Mapping[str, Any]], dict[str, float]]:
        """What the training loop calls: (step, variables) -> numbers of `evaluate.monitor`, those that are finite.

        Where `evaluate.monitor_examples` is set, they are of that part of the training images, which is said.

        Args:
          every: steps between its calls.
        """
        settings = self.experiment.config.evaluate
        examples = self._monitored()
        multiples = monitors(self.experiment.config)
        num_steps = self.experiment.num_steps

        def numbers(step: int, variables: Mapping[str, Any]) -> dict[str, float]:
            with fits.told(self.experiment.config, "evaluation"):
                return measured(step, variables)

        def measured(step: int, variables: Mapping[str, Any]) -> dict[str, float]:
            found: dict[str, float] = {}
            embedded = self.embedded(step, variables)
            if examples is not None:
                embedded = embedded.trained_on(examples)
            for name, multiple in multiples.items():
                if step == num_steps or step % (multiple * every) == 0:
                    for measure, value in EVALUATORS[name].numbers(embedded, settings).items():
                        if isinstance(value, float) and math.isfinite(value):
                            found[measure] = value
            if step != num_steps:
                self._newest = None  # memory for the training
            return found

        return numbers

    def _monitored(self) -> Examples | None:
        """The training images that the monitors see; None for all."""
        settings = self.experiment.config.evaluate
        if settings.monitor_examples is None:
            return None
        train = self.experiment.dataset.train
        count = min(settings.monitor_examples, len(train))
        if is_first():
            few = f"; evaluate.knn_k is {settings.knn_k}, all {count} vote" if count < settings.knn_k else ""
            say(
                f"evaluate.monitor_examples: the monitors see {count:,} of {len(train):,} training {train.noun}, the "
                f"same ones each time; summary.json has the numbers of all{few}"
            )
        if count == len(train):
            return None
        key = jax.random.fold_in(jax.random.key(settings.seed), 2)  # apart from the draws of augmentations
        return train.take(np.sort(np.asarray(jax.random.permutation(key, len(train)))[:count]))

    def measure(self, step: int, variables: Mapping[str, Any], *, file: str = "summary.json") -> Measured:
        """Everything, on the held-out examples.

        Args:
          step: updates made.
          variables: then, of all networks.
          file: where the numbers will be, for the notes.
        """
        return measure(self.embedded(step, variables), file=file)


def measure(embedded: EmbeddedDataSet, names: Iterable[str] | None = None, *, file: str = "summary.json") -> Measured:
    """What evaluators find, on the held-out examples.

    Args:
      embedded: a data set as an encoder sees it.
      names: of the evaluators; None for all of them.
      file: where the numbers will be, for the notes.
    """
    settings = embedded.experiment.config.evaluate
    numbers: dict[str, Any] = {}
    for name in EVALUATORS if names is None else names:
        numbers |= EVALUATORS[name].numbers(embedded, settings)
    test = embedded.part("test")
    numbers["test_examples"] = len(test.rows)
    finite = test.features.finite() & np.isfinite(test.embeddings).all(axis=1)
    some = f"{np.sum(~finite)} of {len(finite)} test {embedded.experiment.dataset.test.noun}"
    broken = f"not finite; the features or embeddings of {some} are not"
    reasons: dict[str, list[str]] = {}
    for name, value in numbers.items():
        if isinstance(value, Missing) or (isinstance(value, float) and not math.isfinite(value)):
            numbers[name] = None
            reasons.setdefault(value.reason if isinstance(value, Missing) else broken, []).append(name)
    missing = [
        f"could not be measured, null in {file}: {', '.join(names)}: {reason}" for reason, names in reasons.items()
    ]
    return Measured(numbers, (*embedded.notes, *missing))


def monitors(config: ml_collections.ConfigDict) -> dict[str, int]:
    """The evaluators of `evaluate.monitor` -> at every how many evaluations they run.

    Raises:
      ConfigError: an evaluator that there is not, a period that the evaluations do not make up, or one whose measures
        have a name that the loss has.
    """
    found = {}
    # By commas within one string too: so the command line gives them.
    for entry in [entry for entries in config.evaluate.monitor for entry in entries.split(",")]:
        name, given, epochs = entry.partition("@")
        where = f"config.evaluate.monitor names {entry!r}"
        if name not in EVALUATORS:
            raise ConfigError(f"{where}; there are {', '.join(EVALUATORS)}, each alone or as name@epochs")
        if name == "clouds" and not of_clouds(config):
            raise ConfigError(f"{where}, which is of clouds of points, and this run is on images; leave it out")
        settings = config.evaluate
        asked_for = {"label_fractions": settings.label_fractions, "finetune": settings.finetune.enabled}.get(name, True)
        if not asked_for:
            setting = "evaluate.finetune.enabled" if name == "finetune" else "evaluate.label_fractions"
            raise ConfigError(f"{where}, which is off; set config.{setting}, or leave it out")
        if config.loss.method in EVALUATORS[name].measures((CLASS,)):
            raise ConfigError(
                f"{where}, which measures {config.loss.method!r}; config.loss.method={config.loss.method} logs its "
                "loss under that name: leave it out (summary.json has it)"
            )
        every = config.train.evaluate_every_epochs
        multiple = _multiple(epochs, every) if given else 1
        if multiple is None:
            raise ConfigError(
                f"{where}; its epochs must be a multiple of config.train.evaluate_every_epochs, which is {every:g}"
            )
        found[name] = multiple
    return found


def _multiple(epochs: str, every: float) -> int | None:
    try:
        ratio = float(epochs) / every
    except (ValueError, ZeroDivisionError):
        return None
    # The ratio of two decimal numbers is seldom whole to the last bit.
    return round(ratio) if 0.5 < ratio < 2**31 and math.isclose(ratio, round(ratio), rel_tol=1e-9) else None
