"""Every example once, in order, exactly: the input of the evaluators."""

import collections
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from care_jax.data.decode import UnreadableImageError, central_square, reduction_for
from care_jax.data.examples import Examples
from care_jax.data.indices import local_rows
from care_jax.data.reader import Reader
from care_jax.data.skipped import SkippedFiles
from care_jax.data.tf_data import available_threads

Batches = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]

_BATCHES_AHEAD = 2
_IMAGES_A_TASK = 8


def batches_in_order(
    examples: Examples,
    *,
    side: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    skipped: SkippedFiles | None = None,
) -> Batches:
    """All examples in index order; none is dropped or counted twice.

    Args:
      examples: resident or encoded.
      side: of the central square that encoded images, which differ in size, are brought to, pixels; resident ones stay
        as they are.
      batch_size: b, over all processes.
      process_index: this process makes rows [p b / P, (p + 1) b / P) of each batch.
      process_count: P, divides b.
      num_threads: at most this many decode at once (None: one a processor this process may use).
      skipped: where unreadable images are counted.

    Returns:
      An iterator of (images, indices, mask): uint8 [b, h, w, 3], or clouds [b, L, 4]; int32 [b] into the examples; bool
      [b], False on the rows that fill up the last batch (index 0) and on unreadable images, which must not be counted.

    Raises:
      ValueError: the batch size is not positive, or the processes don't divide it.
      DataError: a file has changed since the data set was loaded.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    rows = local_rows(batch_size, process_index, process_count)
    starts = range(0, len(examples), batch_size)
    if examples.resident:
        return _resident(examples.pixels, starts, rows)
    return _encoded(Reader(examples, skipped), side, starts, rows, num_threads or available_threads())


def _resident(pixels: np.ndarray, starts: range, rows: range) -> Batches:
    for start in starts:
        indices = start + np.asarray(rows, np.int32)
        mask = indices < len(pixels)
        indices = np.where(mask, indices, 0)
        yield pixels[indices], indices, mask


def _encoded(reader: Reader, side: int, starts: range, rows: range, num_threads: int) -> Batches:
    """Decoded by threads, two batches ahead of the one that is taken."""

    def decode(indices: range, images: np.ndarray, mask: np.ndarray) -> None:
        for row, index in enumerate(indices):
            if index >= len(reader.examples):
                return
            try:
                image = reader.open(index)
                box = central_square(image.height, image.width)
                (images[row],) = image.crops([box], [side], reduction=reduction_for([box], [side]))
                mask[row] = True
            except UnreadableImageError as error:
                reader.skip(index, error)

    threads = ThreadPoolExecutor(num_threads)

    def begin(start: int) -> tuple[list[Future[None]], np.ndarray, np.ndarray, np.ndarray]:
        images, mask = np.zeros((len(rows), side, side, 3), np.uint8), np.zeros(len(rows), bool)
        parts = [range(i, min(i + _IMAGES_A_TASK, len(rows))) for i in range(0, len(rows), _IMAGES_A_TASK)]
        tasks = []
        for part in parts:
            here = slice(part.start, part.stop)
            indices = range(start + rows.start + part.start, start + rows.start + part.stop)
            tasks.append(threads.submit(decode, indices, images[here], mask[here]))
        taken = start + np.asarray(rows, np.int32)
        return tasks, images, np.where(taken < len(reader.examples), taken, 0), mask

    ahead: collections.deque[Any] = collections.deque()
    try:
        for start in starts:
            ahead.append(begin(start))
            if len(ahead) > _BATCHES_AHEAD:
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _finished(
    tasks: list[Future[None]], images: np.ndarray, indices: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    for task in tasks:
        task.result()
    return images, indices, mask
