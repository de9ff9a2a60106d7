"""The pixels of a step, made by many threads that write into the same arrays.

`tf.data` moves the numbers of chunks and of steps alone: an image that passed through it one by one, to be stacked and
transposed there, cost more than its decoding.
"""

import dataclasses
import math
import threading
from types import ModuleType
from typing import Any

import numpy as np

from care_jax.augment import ViewPlan, ViewUniforms, image_spec
from care_jax.data.decode import Box, SourceImage, UnreadableImageError, canvas_side, central_square, reduction_for
from care_jax.data.host_draws import IMAGES_A_CALL, sample_boxes, step_uniforms
from care_jax.data.indices import batch_indices
from care_jax.data.reader import Reader


@dataclasses.dataclass(frozen=True)
class Share:
    """What one process makes of the steps of a plan.

    Attributes:
      plan: of all processes.
      reader: of the examples.
      steps: to be made.
      rows: of the batch, this process's.
      equivariance_rows: of the images that equivariance views are made of, this process's.
      num_threads: that make them.
    """

    plan: ViewPlan
    reader: Reader
    steps: range
    rows: range
    equivariance_rows: range
    num_threads: int

    def indices(self, step: int) -> np.ndarray:
        """[b], the examples of a step, over all processes."""
        count = len(self.reader.examples)
        return batch_indices(self.plan.seed, step, num_examples=count, batch_size=self.plan.batch_size)

    def uniforms(self, step: int) -> ViewUniforms:
        """Rows over all processes."""
        return step_uniforms(self.plan)(step)

    @property
    def canvas_shape(self) -> tuple[int, ...]:
        """[C, C, 3], or [h, w, 3] of resident images."""
        examples = self.reader.examples
        return examples.pixels.shape[1:] if examples.resident else canvas_shape(self.plan)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """Of an image that equivariance views are made of, [c, c, 3] or [h, w, 3]."""
        examples = self.reader.examples
        return examples.pixels.shape[1:] if examples.resident else whole_shape(self.plan)


def canvas_shape(plan: ViewPlan) -> tuple[int, ...]:
    """[C, C, 3], of what holds both crops of an encoded image."""
    side = canvas_side(image_spec(plan.invariance).size)
    return side, side, 3


def whole_shape(plan: ViewPlan) -> tuple[int, ...]:
    """[c, c, 3], of an encoded image that equivariance views are made of."""
    spec = image_spec(plan.equivariance)
    side = round(spec.size / spec.center_fraction) if spec.crop == "center" else spec.size
    return side, side, 3


class _Step:
    """One step in the making: what was drawn for it, and its arrays, filled in by and by.

    Attributes:
      indices: [m], the example of each job; a job is an image decoded once, whatever is made of it.
      uniforms: [m, 2, K], behind its two views.
      arrays: what `Assembly.take` gives.
    """

    def __init__(self, share: Share, step: int, jobs: np.ndarray, crops: bool):
        self.indices = share.indices(step)[jobs]
        self.uniforms = np.swapaxes(share.uniforms(step).invariance[:, jobs], 0, 1)
        size = image_spec(share.plan.invariance).size
        count = len(share.rows)
        if crops:
            self.arrays = {"crops": np.zeros((2, count, size, size, 3), np.uint8)}
        else:
            self.arrays = {
                "canvases": np.zeros((count, *share.canvas_shape), np.uint8),
                "boxes": np.zeros((2, count, 4), np.float32),
            }
        if share.equivariance_rows:
            shape = (len(share.equivariance_rows), *share.whole_shape)
            self.arrays["equivariance_images"] = np.zeros(shape, np.uint8)


class Assembly:
    """Makes the arrays of each step: "equivariance_images", and what invariance views are made of.

    Args:
      share: of this process.
      crops: finished "crops" uint8 [2, b, s, s, 3]; else "canvases" and "boxes", as `pipeline.host_batches` has them.
    """

    def __init__(self, share: Share, *, crops: bool):
        self._share = share
        self._crops = crops
        # Every image is decoded once, also where both kinds of views are made of it.
        self._jobs = np.union1d(share.rows, share.equivariance_rows).astype(np.int64)
        self._chunks_a_step = math.ceil(len(self._jobs) / IMAGES_A_CALL)
        self._steps: dict[int, _Step] = {}
        self._lock = threading.Lock()

    def dataset(self, tf: ModuleType) -> Any:
        """A `tf.data.Dataset` of the steps, int64, in order, each once its arrays are there to `take`."""
        chunks = tf.data.Dataset.range(len(self._share.steps) * self._chunks_a_step)
        chunks = chunks.map(
            lambda chunk: tf.ensure_shape(tf.numpy_function(self._make, [chunk], tf.int64), ()),
            num_parallel_calls=self._share.num_threads,
        )
        return chunks.batch(self._chunks_a_step, drop_remainder=True).map(lambda steps: steps[0])

    def take(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of a finished step, which are then forgotten here."""
        with self._lock:
            return self._steps.pop(int(step)).arrays

    def _step(self, step: int) -> _Step:
        with self._lock:
            if step not in self._steps:
                self._steps[step] = _Step(self._share, step, self._jobs, self._crops)
            return self._steps[step]

    def _make(self, chunk: np.int64) -> np.int64:
        """Fills in some rows of a step; returns the step."""
        position, part = divmod(int(chunk), self._chunks_a_step)
        step = self._share.steps[position]
        first = part * IMAGES_A_CALL
        try:
            making = self._step(step)
            self._fill(making, range(first, min(first + IMAGES_A_CALL, len(self._jobs))))
        except MemoryError as error:  # which ends reading, as what the reader meets does
            self._share.reader.failure = self._share.reader.failure or error
        return np.int64(step)

    def _fill(self, making: _Step, jobs: range) -> None:
        """The rows of some jobs, or none where reading has ended."""
        opened = self._open([int(making.indices[job]) for job in jobs])
        if opened is None:
            return
        sizes = [(image.height, image.width) for _, image in opened]
        spec = image_spec(self._share.plan.invariance)
        drawn = sample_boxes(making.uniforms[jobs.start : jobs.stop], spec, sizes)
        # Popped: what is done with need not lie in memory, encoded.
        for job, wanted in zip(reversed(jobs), reversed(drawn), strict=True):
            index, image = opened.pop()
            while True:
                try:
                    self._write(making, job, index, image, wanted)
                    break
                except UnreadableImageError as error:
                    self._share.reader.skip(index, error)
                del image
                another = self._share.reader.open_readable(index)
                if another is None:
                    return
                index, image = another
                (wanted,) = sample_boxes(making.uniforms[job : job + 1], spec, [(image.height, image.width)])

    def _open(self, indices: list[int]) -> list[tuple[int, SourceImage]] | None:
        """Each image or the one in its place; None if there is none, and so nothing to go on for."""
        opened = []
        for index in indices:
            found = self._share.reader.open_readable(index)
            if found is None:
                return None
            opened.append(found)
        return opened

    def _write(self, making: _Step, job: int, index: int, image: SourceImage, wanted: list[Box]) -> None:
        """Both crops of an image, and the whole of it, into the rows of a job, as far as they are this process's."""
        share = self._share
        row = int(self._jobs[job])
        examples = share.reader.examples
        sizes = [image_spec(share.plan.invariance).size] * 2
        if row < share.plan.equivariance_batch_size and not examples.resident:
            wanted = [*wanted, central_square(image.height, image.width)]
            sizes.append(share.whole_shape[0])
        # Decided by what all processes make of the image, so that the pixels don't depend on their number.
        reduction = reduction_for(wanted, sizes)
        arrays, own = making.arrays, row - share.rows.start
        with image.held(reduction):
            if row in share.rows and self._crops:
                arrays["crops"][:, own] = image.crops(wanted[:2], sizes[:2], reduction=reduction)
            elif row in share.rows:
                arrays["boxes"][:, own] = image.paste(
                    arrays["canvases"][own], wanted[:2], sizes[0], reduction=reduction
                )
            if row in share.equivariance_rows:
                (whole,) = (
                    [examples.pixels[index]]
                    if examples.resident
                    else image.crops(wanted[2:], sizes[2:], reduction=reduction)
                )
                arrays["equivariance_images"][row - share.equivariance_rows.start] = whole
