"""TensorFlow on the host: imported where it is needed, and `tf.data` run within bounds."""

import atexit
import contextlib
import os
import weakref
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any

from care_jax.data.errors import DataError

_PREFETCHED_BATCHES = 2


def import_tensorflow() -> ModuleType:
    """TensorFlow, kept off the accelerators (they are JAX's) and quiet.

    Raises:
      DataError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # decodes and crops need none of it, and it announces itself
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DataError("this needs TensorFlow on the host: pip install 'care_jax[tfds]'") from error
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf


def iterate(
    tf: ModuleType,
    dataset: Any,
    num_threads: int,
    raise_failure: Callable[[], None],
    finish: Callable[[Any], Any] = lambda element: element,
) -> Iterator[Any]:
    """The elements of a `tf.data.Dataset` as arrays: in order, prefetched, on at most `num_threads` threads.

    Args:
      tf: TensorFlow.
      dataset: of arrays, or dictionaries of them.
      num_threads: of the whole pipeline.
      raise_failure: called before each element is given out.
      finish: called on each where it is asked for, not in a thread.
    """
    options = tf.data.Options()
    options.threading.private_threadpool_size = num_threads
    options.threading.max_intra_op_parallelism = 1  # it is parallel over images already
    options.autotune.enabled = False
    options.deterministic = True

    def elements() -> Generator[Any, None, None]:
        for element in dataset.prefetch(_PREFETCHED_BATCHES).with_options(options).as_numpy_iterator():
            raise_failure()
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
