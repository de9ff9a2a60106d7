"""Every example once, in order, exactly: the input of the evaluators where images stay encoded."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from care_jax.augment import NUM_UNIFORMS, AugmentSpec
from care_jax.data.decode import UnreadableImageError, reduction_for
from care_jax.data.errors import DataError
from care_jax.data.examples import Examples, SkippedFiles
from care_jax.data.reader import Reader, available_threads, boxes, iterate, local_rows
from care_jax.data.tfds import import_tensorflow


def evaluation_batches(
    examples: Examples,
    spec: AugmentSpec,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    skipped: SkippedFiles | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The centre of each image, in index order; no example is dropped or counted twice.

    Args:
      examples: resident or encoded.
      spec: gives the side s and the fraction of the central crop; its ranges and normalisation are not used.
      batch_size: b, over all processes.
      process_index: this process makes rows [p b / P, (p + 1) b / P) of each batch.
      process_count: P, divides b.
      num_threads: at most this many decode at once (None: one a processor this process may use).
      skipped: where unreadable images are counted.

    Returns:
      An iterator of (images, indices, mask): float32 [b, s, s, 3] in [0, 1], not normalised; int32 [b] into the
      examples; bool [b], False on the rows that fill up the last batch (index 0) and on unreadable images. What is
      masked is black, and must not be counted.

    Raises:
      ValueError: the batch size is not positive, or the processes don't divide it.
      DataError: a file has changed since the data set was loaded.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    rows = local_rows(batch_size, process_index, process_count)
    tf = import_tensorflow()
    reader = Reader(examples, skipped)
    central = dataclasses.replace(spec, crop="center")
    shape = (spec.size, spec.size, 3)

    def decode(row: np.int64) -> tuple[np.ndarray, np.int32, np.bool_]:
        if row >= len(examples):
            return np.zeros(shape, np.uint8), np.int32(0), np.False_
        try:
            image = reader.open(int(row))
            (box,) = boxes(np.zeros((1, 1, NUM_UNIFORMS), np.float32), central, [(image.height, image.width)])
            (center,) = image.crops(box, [spec.size], reduction=reduction_for(box, [spec.size]))
            return center, np.int32(row), np.True_
        except UnreadableImageError as error:
            reader.skip(int(row), error)
            return np.zeros(shape, np.uint8), np.int32(row), np.False_
        except DataError:  # which `iterate` raises, as the reader's failure
            return np.zeros(shape, np.uint8), np.int32(row), np.False_

    def decoded(row: Any) -> tuple[Any, Any, Any]:
        image, index, mask = tf.numpy_function(decode, [row], [tf.uint8, tf.int32, tf.bool])
        return tf.ensure_shape(image, shape), tf.ensure_shape(index, ()), tf.ensure_shape(mask, ())

    def rows_of_batch(batch: Any) -> Any:
        return tf.data.Dataset.range(batch * batch_size + rows.start, batch * batch_size + rows.stop)

    threads = num_threads or available_threads()
    num_batches = -(-len(examples) // batch_size)
    dataset = tf.data.Dataset.range(num_batches).flat_map(rows_of_batch)
    dataset = dataset.map(decoded, num_parallel_calls=threads).batch(len(rows))
    dataset = dataset.map(lambda images, indices, mask: (tf.cast(images, tf.float32) / 255.0, indices, mask))
    return iterate(tf, dataset, threads, reader)
