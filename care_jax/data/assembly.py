"""The pixels of a step, made by many threads that write into the same arrays.

`tf.data` moves the numbers of chunks and of steps alone: an image that passed through it one by one, to be stacked and
transposed there, cost more than its decoding.
"""

import dataclasses
import math
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from care_jax.augment import AugmentSpec, ViewUniforms
from care_jax.data.decode import Box, SourceImage, UnreadableImageError, canvas_side, central_square, reduction_for
from care_jax.data.reader import IMAGES_A_CALL, Reader, boxes


@dataclasses.dataclass(frozen=True)
class Plan:
    """What this process makes of each step."""

    reader: Reader
    invariance: AugmentSpec
    equivariance: AugmentSpec
    indices: Callable[[int], np.ndarray]  # step -> [b], over all processes
    uniforms: Callable[[int], ViewUniforms]  # step -> rows over all processes
    steps: range
    equivariance_batch_size: int  # over all processes
    rows: range  # of the batch, this process's
    shared_rows: range
    num_threads: int
    crops: bool = True  # or canvases, of which the device cuts them

    @property
    def canvas_shape(self) -> tuple[int, ...]:
        """[C, C, 3], or [h, w, 3] of resident images."""
        images = self.reader.examples.images
        return images.shape[1:] if isinstance(images, np.ndarray) else (canvas_side(self.invariance.size),) * 2 + (3,)

    @property
    def center_shape(self) -> tuple[int, ...]:
        """Of an image that the equivariance term starts from, [c, c, 3] or [h, w, 3]."""
        images = self.reader.examples.images
        if isinstance(images, np.ndarray):
            return images.shape[1:]
        spec = self.equivariance
        side = round(spec.size / spec.center_fraction) if spec.crop == "center" else spec.size
        return side, side, 3


class _Step:
    """One step in the making: what was drawn for it, and its arrays, filled in by and by.

    Attributes:
      indices: [m], the example of each job; a job is an image decoded once, whatever is made of it.
      uniforms: [m, 2, K], behind its two views.
      arrays: what `Assembly.take` gives.
    """

    def __init__(self, plan: Plan, step: int, jobs: np.ndarray):
        drawn = plan.uniforms(step)
        self.indices = plan.indices(step)[jobs]
        self.uniforms = np.stack([drawn.first[jobs], drawn.second[jobs]], axis=1)
        size = plan.invariance.size
        count = len(plan.rows)
        if plan.crops:
            self.arrays = {"crops": np.zeros((2, count, size, size, 3), np.uint8)}
        else:
            self.arrays = {
                "canvases": np.zeros((count, *plan.canvas_shape), np.uint8),
                "boxes": np.zeros((2, count, 4), np.float32),
            }
        if plan.shared_rows:
            self.arrays["centers"] = np.zeros((len(plan.shared_rows), *plan.center_shape), np.uint8)


class Assembly:
    """Makes the arrays of each step of a plan: those of "split" or "decode" in `pipeline.host_batches`."""

    def __init__(self, plan: Plan):
        self._plan = plan
        # Every image is decoded once, also where both terms want it.
        self._jobs = np.union1d(plan.rows, plan.shared_rows).astype(np.int64)
        self._chunks_a_step = math.ceil(len(self._jobs) / IMAGES_A_CALL)
        self._steps: dict[int, _Step] = {}
        self._lock = threading.Lock()

    def dataset(self, tf: ModuleType) -> Any:
        """A `tf.data.Dataset` of the steps, int64, in order, each once its arrays are there to `take`."""
        chunks = tf.data.Dataset.range(len(self._plan.steps) * self._chunks_a_step)
        chunks = chunks.map(
            lambda chunk: tf.ensure_shape(tf.numpy_function(self._make, [chunk], tf.int64), ()),
            num_parallel_calls=self._plan.num_threads,
        )
        return chunks.batch(self._chunks_a_step, drop_remainder=True).map(lambda steps: steps[0])

    def take(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of a finished step, which are then forgotten here."""
        with self._lock:
            return self._steps.pop(int(step)).arrays

    def _step(self, step: int) -> _Step:
        with self._lock:
            if step not in self._steps:
                self._steps[step] = _Step(self._plan, step, self._jobs)
            return self._steps[step]

    def _make(self, chunk: np.int64) -> np.int64:
        """Fills in some rows of a step; returns the step."""
        position, part = divmod(int(chunk), self._chunks_a_step)
        step = self._plan.steps[position]
        making = self._step(step)
        first = part * IMAGES_A_CALL
        jobs = range(first, min(first + IMAGES_A_CALL, len(self._jobs)))
        opened = self._open([int(making.indices[job]) for job in jobs])
        if opened is None:
            return np.int64(step)
        sizes = [(image.height, image.width) for _, image in opened]
        drawn = boxes(making.uniforms[jobs.start : jobs.stop], self._plan.invariance, sizes)
        # Popped: what is done with need not lie in memory, encoded.
        for job, wanted in zip(reversed(jobs), reversed(drawn), strict=True):
            index, image = opened.pop()
            while True:
                try:
                    self._write(making, job, index, image, wanted)
                    break
                except UnreadableImageError as error:
                    self._plan.reader.skip(index, error)
                del image
                another = self._plan.reader.open_readable(index)
                if another is None:
                    return np.int64(step)
                index, image = another
                (wanted,) = boxes(making.uniforms[job : job + 1], self._plan.invariance, [(image.height, image.width)])
        return np.int64(step)

    def _open(self, indices: list[int]) -> list[tuple[int, SourceImage]] | None:
        """Each image or the one in its place; None if there is none, and so nothing to go on for."""
        opened = []
        for index in indices:
            found = self._plan.reader.open_readable(index)
            if found is None:
                return None
            opened.append(found)
        return opened

    def _write(self, making: _Step, job: int, index: int, image: SourceImage, wanted: list[Box]) -> None:
        """Both crops of an image and its centre into the rows of a job, as far as they are this process's."""
        plan = self._plan
        row = int(self._jobs[job])
        images = plan.reader.examples.images
        sizes = [plan.invariance.size] * 2
        if row < plan.equivariance_batch_size and not isinstance(images, np.ndarray):
            wanted = [*wanted, central_square(image.height, image.width)]
            sizes.append(plan.center_shape[0])
        # Decided by what all processes make of the image, so that the pixels don't depend on their number.
        reduction = reduction_for(wanted, sizes)
        arrays, own = making.arrays, row - plan.rows.start
        with image.held(reduction):
            if row in plan.rows and plan.crops:
                arrays["crops"][:, own] = image.crops(wanted[:2], sizes[:2], reduction=reduction)
            elif row in plan.rows:
                arrays["boxes"][:, own] = image.paste(
                    arrays["canvases"][own], wanted[:2], sizes[0], reduction=reduction
                )
            if row in plan.shared_rows:
                (center,) = (
                    [images[index]]
                    if isinstance(images, np.ndarray)
                    else image.crops(wanted[2:], sizes[2:], reduction=reduction)
                )
                arrays["centers"][row - plan.shared_rows.start] = center
