"""Which examples a step takes, and which rows of a batch a process makes."""

import functools

import numpy as np


# Two, because training looks at one epoch and the prefetching pipeline may already be in the next.
@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    permutation = np.random.default_rng([seed, epoch]).permutation(num_examples).astype(np.int32)
    permutation.flags.writeable = False
    return permutation


def batch_indices(seed: int, step: int, *, num_examples: int, batch_size: int) -> np.ndarray:
    """The examples of step t: a pure function of (seed, t), so that a resumed run sees what it would have seen.

    Epoch = t // (n // b), and inside an epoch the batches are consecutive slices of one permutation of the n examples.
    The last n mod b examples of a permutation are left out; every epoch permutes anew, so they differ from epoch to
    epoch and no example is left out for good.

    Args:
      seed: the run's seed, >= 0.
      step: t >= 0, counted from the start of the run.
      num_examples: n.
      batch_size: b <= n, over all processes.

    Returns:
      int32 [b], distinct, in [0, n).

    Raises:
      ValueError: a negative seed or step, or a batch size outside [1, n].

    >>> batch_indices(0, 0, num_examples=4, batch_size=2).tolist()
    [2, 0]
    """
    if seed < 0 or step < 0:
        raise ValueError(f"seed and step must be >= 0, got seed {seed} and step {step}")
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size {batch_size} must be between 1 and the number of training examples, {num_examples}"
        )
    epoch, batch = divmod(int(step), num_examples // batch_size)
    return _permutation(int(seed), epoch, num_examples)[batch * batch_size : (batch + 1) * batch_size].copy()


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
