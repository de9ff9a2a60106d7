"""When things are due in a run: rows, evaluations, saves, and the ends of the device's calls between them."""

import math
from collections.abc import Iterator
from typing import NamedTuple


class Timetable(NamedTuple):
    """When things are due, in steps; 0 means only after the last step.

    Attributes:
      num_steps: updates in the whole run.
      log_every: rows of metrics; each is the mean over the steps since the row before.
      evaluate_every: calls of the monitor.
      checkpoint_every: saves.
      batch_size: images a step, for the speed.
      steps_per_call: steps that the device makes in one call, where nothing falls due between them.
    """

    num_steps: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int
    batch_size: int
    steps_per_call: int = 1

    def due(self, every: int, step: int, count: int = 1) -> bool:
        """Whether something that happens `every` steps happens in the last `count` of `step` updates."""
        return step == self.num_steps or (every > 0 and step // every > (step - count) // every)

    def counts(self, step: int) -> Iterator[int]:
        """Steps of each call after `step` updates: `most_per_call`, or single ones up to the next save or evaluation.

        A function of the step alone, so that a resumed run makes the calls that it would have made. There are two
        numbers of steps at most: each is a program to compile.
        """
        most = self.most_per_call
        while step < self.num_steps:
            end = min([self.num_steps, *((step // every + 1) * every for every in self._everies())])
            count = most if step + most <= end else 1
            yield count
            step += count

    @property
    def most_per_call(self) -> int:
        """`steps_per_call`, or as many as lie between two saves or evaluations, where that is less."""
        return min([self.steps_per_call, self.num_steps, *self._everies()])

    def ranked(self, every: int = 1) -> tuple[int, int]:
        """Of the evaluations, how many fall on a save, and how many there are; the last step is both.

        Args:
          every: count only each evaluation whose number is a multiple of it, and the last one.
        """
        evaluated = self.evaluate_every * every
        return self._times(math.lcm(evaluated, self.checkpoint_every)), self._times(evaluated)

    def notes(self, ranking_every: int | None) -> list[str]:
        """A line for what the periods keep from being done as it was set.

        Args:
          ranking_every: the evaluations that a checkpoint can be ranked by, as of `ranked`; None where there are none.
        """
        lines = []
        if self.most_per_call < min(self.steps_per_call, self.num_steps):
            lines.append(
                f"train.steps_per_call is {self.steps_per_call}, but a save or an evaluation is due every "
                f"{self.most_per_call} steps: no call makes more"
            )
        ranked, evaluations = self.ranked(ranking_every) if ranking_every else (0, 0)
        if ranked < evaluations:
            lines.append(
                f"{ranked} of {evaluations} evaluations fall on a save: the checkpoint kept as the best is the best of "
                "these; with train.evaluate_every_epochs a multiple of train.checkpoint_every_epochs, of all"
            )
        return lines

    def _everies(self) -> list[int]:
        return [every for every in (self.evaluate_every, self.checkpoint_every) if every > 0]

    def _times(self, every: int) -> int:
        """How often something happens `every` steps; after the last step in any case."""
        return 1 + ((self.num_steps - 1) // every if every > 0 else 0)


def periods(first: float, second: float, steps_per_epoch: int) -> tuple[int, int]:
    """Two periods in epochs as steps; 0 stays 0.

    Each is rounded to steps. Where one is a whole number of the other in epochs it stays so in steps, or they would not
    meet: the longer one becomes the nearest multiple of the shorter one.

    >>> periods(2.5, 5.0, 11), periods(10.0, 10.0, 7), periods(1.5, 4.0, 11), periods(0.0, 0.1, 30)
    ((28, 56), (70, 70), (16, 44), (0, 3))
    """
    steps = [max(round(epochs * steps_per_epoch), 1) if epochs else 0 for epochs in (first, second)]
    if first and second:
        ratio = max(first, second) / min(first, second)
        if math.isclose(ratio, round(ratio), rel_tol=1e-9):  # of decimal numbers it is seldom whole to the last bit
            shorter = min(steps)
            steps = [max(round(one / shorter), 1) * shorter for one in steps]
    return steps[0], steps[1]
