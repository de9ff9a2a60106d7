"""Every example once, in order, exactly: the input of the evaluators."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from care_jax.data.decode import UnreadableImageError, central_square, reduction_for
from care_jax.data.errors import DataError
from care_jax.data.examples import Examples, SkippedFiles
from care_jax.data.indices import local_rows
from care_jax.data.reader import Reader
from care_jax.data.tf_data import available_threads, import_tensorflow, iterate

Batches = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]


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
      An iterator of (images, indices, mask): uint8 [b, h, w, 3]; int32 [b] into the examples; bool [b], False on the
      rows that fill up the last batch (index 0) and on unreadable images, which must not be counted.

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
    tf = import_tensorflow()
    shape = (side, side, 3)

    def decode(index: np.int64) -> tuple[np.ndarray, np.int32, np.bool_]:
        if index >= len(reader.examples):
            return np.zeros(shape, np.uint8), np.int32(0), np.False_
        try:
            image = reader.open(int(index))
            box = central_square(image.height, image.width)
            (square,) = image.crops([box], [side], reduction=reduction_for([box], [side]))
            return square, np.int32(index), np.True_
        except UnreadableImageError as error:
            reader.skip(int(index), error)
        except DataError:
            pass  # which `iterate` raises, as the reader's failure
        return np.zeros(shape, np.uint8), np.int32(index), np.False_

    def decoded(index: Any) -> tuple[Any, Any, Any]:
        image, index, mask = tf.numpy_function(decode, [index], [tf.uint8, tf.int32, tf.bool])
        return tf.ensure_shape(image, shape), tf.ensure_shape(index, ()), tf.ensure_shape(mask, ())

    def indices_of_batch(batch: Any) -> Any:
        start = batch * starts.step
        return tf.data.Dataset.range(start + rows.start, start + rows.stop)

    dataset = tf.data.Dataset.range(len(starts)).flat_map(indices_of_batch)
    dataset = dataset.map(decoded, num_parallel_calls=num_threads).batch(len(rows))
    return iterate(tf, dataset, num_threads, reader.raise_failure)
