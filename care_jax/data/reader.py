"""What the host pipelines share: examples read one by one, boxes drawn for them, and `tf.data` run within bounds."""

import atexit
import contextlib
import functools
import os
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.augment import AugmentSpec
from care_jax.data.decode import Box, SourceImage, UnreadableImageError
from care_jax.data.errors import DataError
from care_jax.data.examples import Examples, SkippedFiles

# Images that one call from `tf.data` reads and decodes: enough to share what a call costs (its way into Python, the
# boxes' way through JAX), few enough for the threads to share a batch. Their files are in memory at once.
IMAGES_A_CALL = 16
_PREFETCHED_BATCHES = 2


class Reader:
    """Examples of which the unreadable ones are counted and, where a batch must be full, replaced.

    Attributes:
      examples: resident or encoded.
      failure: what ended reading, if anything did. Kept, not raised: what a callback of `tf.data` raises arrives as the
        text of another exception, after a page of log.
    """

    def __init__(self, examples: Examples, skipped: SkippedFiles | None):
        self.examples = examples
        self.failure: DataError | None = None
        self._skipped = SkippedFiles() if skipped is None else skipped
        self._unreadable: set[int] = set()

    def open(self, index: int) -> SourceImage:
        """Image `index`, its pixels not yet decoded.

        Raises:
          UnreadableImageError: the file can't be read or holds no image.
          DataError: the file has changed since the data set was loaded; kept as the failure too.
        """
        images = self.examples.images
        if isinstance(images, np.ndarray):
            return SourceImage.from_pixels(images[index])
        try:
            data = images.read(index)
        except DataError as error:
            self.failure = self.failure or error
            raise
        except OSError as error:
            raise UnreadableImageError(f"unreadable: {error.strerror or error}") from error
        return SourceImage.from_bytes(data)

    def skip(self, index: int, error: UnreadableImageError) -> None:
        """Counts image `index` as skipped."""
        images = self.examples.images
        self._unreadable.add(index)
        self._skipped.add(f"image {index}" if isinstance(images, np.ndarray) else images.name(index), str(error))

    def open_readable(self, index: int) -> tuple[int, SourceImage] | None:
        """Image `index` or, if that is known or found to be unreadable, the next in index order that isn't.

        None, and a `failure`, if no image at all is readable or the data set has changed.

        Returns:
          (its index, the image).
        """
        for candidate in range(index, index + len(self.examples)):
            candidate %= len(self.examples)
            if self.failure is not None:
                return None  # nobody will use what is made of this batch
            if candidate in self._unreadable:
                continue
            try:
                return candidate, self.open(candidate)
            except UnreadableImageError as error:
                self.skip(candidate, error)
            except DataError:
                return None
        self.failure = DataError(f"no image can be decoded: {self._skipped.summary()}")
        return None


def iterate(
    tf: ModuleType,
    dataset: Any,
    num_threads: int,
    reader: Reader,
    finish: Callable[[Any], Any] = lambda element: element,
) -> Iterator[Any]:
    """The elements of a `tf.data.Dataset` as arrays: in order, prefetched, on at most `num_threads` threads.

    `finish` is called on each where it is asked for, not in a thread.

    Raises:
      DataError: the reader's failure.
    """
    options = tf.data.Options()
    options.threading.private_threadpool_size = num_threads
    options.threading.max_intra_op_parallelism = 1  # it is parallel over images already
    options.autotune.enabled = False
    options.deterministic = True

    def elements() -> Generator[Any, None, None]:
        for element in dataset.prefetch(_PREFETCHED_BATCHES).with_options(options).as_numpy_iterator():
            if reader.failure is not None:
                raise reader.failure
            yield finish(element)

    iterator = elements()
    _running.add(iterator)
    return iterator


# A pipeline still prefetching when the interpreter is taken down waits for it, and it for the pipeline, for ever.
_running: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


@atexit.register
def _stop_pipelines() -> None:
    for iterator in list(_running):
        with contextlib.suppress(ValueError):  # some other thread is in it
            iterator.close()


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_rows(batch_size: int, process_index: int, process_count: int) -> range:
    """The rows of a batch over all processes that one of them makes: [p b / P, (p + 1) b / P).

    Raises:
      ValueError: the processes don't divide the batch.
    """
    if not 0 <= process_index < process_count or batch_size % process_count:
        raise ValueError(
            f"the number of processes must divide the batch sizes; got process {process_index} of {process_count} "
            f"and batch size {batch_size}"
        )
    share = batch_size // process_count
    return range(process_index * share, (process_index + 1) * share)


def on_host(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled for this process's CPU, arrays in and out: the accelerator is left to the training step."""
    compiled = jax.jit(function)

    def call(*arguments: Any) -> Any:
        with jax.default_device(_host_device()):
            return jax.device_get(compiled(*arguments))

    return call


def boxes(uniforms: np.ndarray, spec: AugmentSpec, sizes: Sequence[tuple[int, int]]) -> list[list[Box]]:
    """The boxes that rows of uniforms [n, v, K] draw from n images of these heights and widths, v an image."""
    count = len(uniforms)
    if count > IMAGES_A_CALL:
        return boxes(uniforms[:IMAGES_A_CALL], spec, sizes[:IMAGES_A_CALL]) + boxes(
            uniforms[IMAGES_A_CALL:], spec, sizes[IMAGES_A_CALL:]
        )
    # Always of one shape: compiled once, and no box depends on how many others are drawn beside it.
    rows = np.zeros((IMAGES_A_CALL, *uniforms.shape[1:]), np.float32)
    rows[:count] = uniforms
    extents = np.ones((2, IMAGES_A_CALL, 1), np.int32)
    extents[:, :count, 0] = np.transpose(sizes)
    drawn = _box_function(spec)(rows, *extents)[:count].tolist()
    return [[(top, left, height, width) for top, left, height, width in views] for views in drawn]


@functools.cache
def _box_function(spec: AugmentSpec) -> Callable[..., np.ndarray]:
    @on_host
    def draw(uniforms: jax.Array, height: jax.Array, width: jax.Array) -> jax.Array:
        drawn = augment.sample(uniforms, spec, height=height, width=width)
        return jnp.stack([drawn.top, drawn.left, drawn.height, drawn.width], axis=-1).astype(jnp.int32)

    return draw


@functools.cache
def _host_device() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names an accelerator alone
        return jax.local_devices()[0]
