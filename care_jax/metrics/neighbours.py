"""What the neighbours of an embedding know of its class: weighted k-nearest-neighbour votes, recall of retrieval."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_temperature, matmul, normalize, promote

Nearest = tuple[jax.Array, jax.Array, jax.Array]  # cosines and rows, [q, k], and who has met NaN, [q]


def knn_vote(
    similarities: ArrayLike, labels: ArrayLike, *, num_classes: int, temperature: float | jax.Array
) -> jax.Array:
    """Score of each class: the sum of exp(similarity / temperature) over the neighbours that carry it.

    Scores are divided by the query's largest weight, so that no temperature overflows; no ranking changes.

    Args:
      similarities: Similarities of the neighbours, [q, k], in any order.
      labels: Their classes, integers [q, k] in [0, num_classes); a neighbour outside that range has no vote.
      num_classes: Number of classes, c.
      temperature: Positive scalar, in units of the similarity.

    Returns:
      Scores [q, c]; NaN for all classes of a query that has NaN among its similarities.

    Raises:
      ValueError: If a shape does not fit, labels are no integers or more than JAX's hold, or num_classes or temperature
        is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> scores = knn_vote(jnp.array([[0.9, 0.8, 0.8]]), jnp.array([[0, 1, 1]]), num_classes=2, temperature=1.0)
      >>> print(scores.argmax(axis=1))  # two good neighbours outvote the best one
      [1]

    Source: Wu et al. 2018 (instance discrimination), section 3.4; the kNN monitor of the official CARE code.
    """
    similarities, labels = jnp.asarray(similarities), _unconverted(labels)
    if similarities.ndim != 2 or similarities.shape != labels.shape or similarities.shape[1] == 0:
        raise ValueError(f"knn_vote: both arguments must be [q, k], k >= 1; got {similarities.shape}, {labels.shape}")
    check_labels("knn_vote", labels)
    labels = jnp.asarray(labels)
    if num_classes < 1:
        raise ValueError(f"knn_vote: num_classes must be positive; got {num_classes}")
    (similarities,) = promote(similarities)
    try:
        temperature = as_temperature(temperature, similarities.dtype)
    except ValueError as error:
        raise ValueError(f"knn_vote: {error}") from None
    weights = jnp.exp((similarities - jnp.max(similarities, axis=1, keepdims=True)) / temperature)

    # One neighbour at a time: no [q, k, c] array, and, unlike a scatter on a GPU, always summed in the same order.
    def add_vote(j, scores):
        return scores + jnp.where(labels[:, j, None] == jnp.arange(num_classes), weights[:, j, None], 0.0)

    scores = jax.lax.fori_loop(0, weights.shape[1], add_vote, jnp.zeros((len(weights), num_classes), weights.dtype))
    return jnp.where(jnp.any(jnp.isnan(weights), axis=1, keepdims=True), jnp.nan, scores)


def winners(
    similarities: ArrayLike, labels: ArrayLike, *, num_classes: int, temperature: float | jax.Array
) -> jax.Array:
    """Class with the highest score of `knn_vote`, the lower of equal ones.

    Args:
      similarities, labels, num_classes, temperature: As in `knn_vote`.

    Returns:
      Classes, int32 [q]; -1 for a query that has NaN among its similarities.
    """
    similarities = jnp.asarray(similarities)
    scores = knn_vote(similarities, labels, num_classes=num_classes, temperature=temperature)
    broken = jnp.any(jnp.isnan(similarities), axis=1)
    return jnp.where(broken, -1, jnp.argmax(scores, axis=1)).astype(jnp.int32)


def nearest(
    queries: ArrayLike, bank: ArrayLike, *, k: int, counted: ArrayLike | None = None, bank_block: int = 16384
) -> tuple[jax.Array, jax.Array]:
    """The k rows of the bank with the highest cosine to each query, exactly, a block of the bank at a time.

    Equal cosines go to the earlier row, in one block or in two. A zero row has cosine 0.

    Args:
      queries: [q, d]; normalised here.
      bank: [m, d]; normalised here, a block at a time: there is no second copy of it.
      k: Number of neighbours, at most m.
      counted: Which rows there are, bool [m], at least k of them: the others are no one's neighbours; None: all.
      bank_block: Rows of the bank handled at a time; memory is about two arrays [q, k + bank_block].

    Returns:
      Cosines [q, k], highest first, and rows of the bank, int32 [q, k]. A query with NaN among its cosines to any of
      the m rows, a neighbour's or not, has NaN in all k.
    """
    queries, bank = jnp.asarray(queries), jnp.asarray(bank)
    size = min(bank_block, len(bank))
    (unit,) = promote(queries)
    unit = normalize(unit, epsilon=0)

    def add_block(nearer: Nearest, index: jax.Array) -> tuple[Nearest, None]:
        cosines, rows, broken = nearer
        # The last block begins early where m is no multiple of its size; rows that were met before don't count again.
        start = jnp.minimum(index * size, len(bank) - size)
        (block,) = promote(jax.lax.dynamic_slice_in_dim(bank, start, size))
        similarities = matmul(unit, normalize(block, epsilon=0).T)
        counts = start + jnp.arange(size) >= index * size
        if counted is not None:
            counts &= jax.lax.dynamic_slice_in_dim(jnp.asarray(counted), start, size)
        # Of all similarities: which place NaN takes among the nearest depends on its sign.
        broken |= jnp.any(jnp.isnan(similarities) & counts, axis=1)
        candidates = jnp.concatenate([cosines, jnp.where(counts, similarities, -jnp.inf)], axis=1)
        cosines, places = jax.lax.top_k(candidates, k)  # the earlier of equals, and earlier blocks come first
        before = jnp.take_along_axis(rows, jnp.minimum(places, k - 1), axis=1)
        return (cosines, jnp.where(places < k, before, start + places - k).astype(jnp.int32), broken), None

    shape = len(queries), k
    nothing = jnp.full(shape, -jnp.inf, unit.dtype), jnp.zeros(shape, jnp.int32), jnp.zeros(len(queries), bool)
    (cosines, rows, broken), _ = jax.lax.scan(add_block, nothing, jnp.arange(-(-len(bank) // size)))
    return jnp.where(broken[:, None], jnp.nan, cosines), rows


def merge_nearest(cosines: ArrayLike, rows: ArrayLike, *, k: int) -> tuple[jax.Array, jax.Array]:
    """The k nearest of the nearest of several parts of a bank, as `nearest` finds them in the whole.

    Args:
      cosines: Of candidates from all parts, [q, c], c >= k, in any order.
      rows: Where each lies in the whole bank, integers [q, c]: the lower of equal cosines is the earlier.
      k: Number of neighbours.

    Returns:
      Cosines [q, k], highest first, NaN in all k where a query has one; their rows [q, k].
    """
    cosines, rows = jnp.asarray(cosines), jnp.asarray(rows)
    broken = jnp.any(jnp.isnan(cosines), axis=1, keepdims=True)
    farness, rows = jax.lax.sort((-cosines, rows), dimension=1, num_keys=2)
    return jnp.where(broken, jnp.nan, -farness[:, :k]), rows[:, :k]


def weighted_knn(
    queries: ArrayLike,
    bank: ArrayLike,
    bank_labels: ArrayLike,
    *,
    k: int,
    temperature: float | jax.Array,
    num_classes: int,
    block: int = 1024,
    bank_block: int = 16384,
) -> jax.Array:
    """Class of each query by the weighted vote of its k nearest bank rows, weights exp(cosine / temperature).

    Neighbours are exact. Equal scores go to the lower class, equal cosines to the earlier row. A zero row has cosine 0.
    Beside queries and bank, memory is about two arrays [block, k + bank_block], however long the bank.

    Args:
      queries: Embeddings to classify, [q, d]; normalised here.
      bank: Labelled embeddings, [m, d]; normalised here.
      bank_labels: Classes of the bank rows, integers [m] in [0, num_classes). Those that jit traces are not examined:
        a row outside that range has no vote.
      k: Number of neighbours that vote, at most m.
      temperature, num_classes: As in `knn_vote`.
      block: Queries handled at a time.
      bank_block: Rows of the bank handled at a time.

    Returns:
      Predicted classes, int32 [q]; -1 where a similarity is NaN: for a query with NaN, or for all if the bank has one.

    Raises:
      ValueError: If a shape does not fit, k is not in [1, m], bank_labels are no integers or not in [0, num_classes),
        or a block, num_classes or temperature is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> bank, labels = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), jnp.array([4, 4, 7])
      >>> queries = jnp.array([[5.0, 1.0], [0.0, 2.0]])
      >>> print(weighted_knn(queries, bank, labels, k=1, temperature=0.5, num_classes=10))
      [4 7]

    Source: the kNN monitor of the official CARE code (k 200, temperature that of the loss; ImageNet100: k 20).
    """
    queries, bank, bank_labels = jnp.asarray(queries), jnp.asarray(bank), _unconverted(bank_labels)
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"weighted_knn: queries [q, d] and bank [m, d] needed; got {queries.shape}, {bank.shape}")
    if bank_labels.shape != bank.shape[:1]:
        raise ValueError(f"weighted_knn: {len(bank)} bank rows need as many labels; got shape {bank_labels.shape}")
    check_labels("weighted_knn", bank_labels, num_classes)
    labels = jnp.asarray(bank_labels)
    if not 1 <= k <= len(bank):
        raise ValueError(f"weighted_knn: k must be between 1 and the bank's {len(bank)} rows; got {k}")
    if min(block, bank_block) < 1:
        raise ValueError(f"weighted_knn: block and bank_block must be positive; got {block}, {bank_block}")

    def classify(some: jax.Array) -> jax.Array:
        cosines, rows = nearest(some, bank, k=k, bank_block=bank_block)
        return winners(cosines, labels[rows], num_classes=num_classes, temperature=temperature)

    return in_blocks(classify, queries, block=block)


def check_labels(name: str, labels: np.ndarray | jax.Array, num_classes: int | None = None) -> None:
    """That they are integers which JAX's hold; given num_classes, also in [0, num_classes).

    Args:
      name: whose labels, for the error.
      labels: any shape; before JAX has made them its own, which cuts 64 bits to 32. Only the type is examined of those
        that jit traces, or that lie on devices of other processes.
      num_classes: c, or None.

    Raises:
      ValueError: they are not.
    """
    if labels.dtype != bool and not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name}: labels must be integers; got {labels.dtype}")
    if isinstance(labels, jax.core.Tracer) or (isinstance(labels, jax.Array) and not labels.is_fully_addressable):
        return
    if num_classes is not None and num_classes >= 1:  # of fewer classes `knn_vote` tells
        _check_range(name, labels, 0, num_classes)
    held = jnp.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
    if not np.can_cast(labels.dtype, held.dtype):
        _check_range(name, labels, int(held.min), int(held.max) + 1)


def _check_range(name: str, labels: np.ndarray | jax.Array, low: int, high: int) -> None:
    values = np.asarray(labels)
    outside = np.argwhere((values < low) | (values >= high))
    if len(outside):
        place = ", ".join(map(str, outside[0]))
        raise ValueError(
            f"{name}: labels must be in [{low}, {high}); got {values[tuple(outside[0])]}, first in row {place}"
        )


def _unconverted(labels: ArrayLike) -> np.ndarray | jax.Array:
    """An array, of NumPy where it is not JAX's already: as many bits as it was given with."""
    if isinstance(labels, jax.Array) or any(isinstance(one, jax.core.Tracer) for one in jax.tree.leaves(labels)):
        return jnp.asarray(labels)
    return np.asarray(labels)


def in_blocks(function: Callable[..., Any], *rows: jax.Array, block: int) -> Any:
    """`function(*rows)`, whose results are of one row each, a block of the rows at a time.

    Args:
      function: arrays [b, ...] -> arrays [b, ...].
      *rows: arrays [n, ...].
      block: rows handled at a time; where they don't divide n, the last block takes some rows again.

    Returns:
      Arrays [n, ...].
    """
    count = len(rows[0])
    size = max(1, min(block, count))
    like = jax.eval_shape(function, *(jax.ShapeDtypeStruct((size, *one.shape[1:]), one.dtype) for one in rows))
    results = jax.tree.map(lambda one: jnp.zeros((count, *one.shape[1:]), one.dtype), like)
    if not count:
        return results

    def add_block(index: jax.Array, results: Any) -> Any:
        start = jnp.minimum(index * size, count - size)
        found = function(*(jax.lax.dynamic_slice_in_dim(one, start, size) for one in rows))
        return jax.tree.map(lambda to, one: jax.lax.dynamic_update_slice_in_dim(to, one, start, 0), results, found)

    return jax.lax.fori_loop(0, -(-count // size), add_block, results)


def recall_at_k(retrieved_labels: ArrayLike, query_labels: ArrayLike) -> jax.Array:
    """Recall@K of metric learning: the fraction of queries with at least one of their own class among the k retrieved.

    Args:
      retrieved_labels: Classes of the items retrieved for each query, integers [q, k] (the query itself left out).
      query_labels: Classes of the queries, integers [q].

    Returns:
      A float32 scalar in [0, 1]. Labels are integers: there is no NaN to pass on.

    Raises:
      ValueError: If a shape does not fit, there is no query, or labels are no integers or more than JAX's hold: int32,
        or int64 where it has 64 bits.
    """
    retrieved_labels, query_labels = _unconverted(retrieved_labels), _unconverted(query_labels)
    if retrieved_labels.ndim != 2 or retrieved_labels.shape[:1] != query_labels.shape or not len(query_labels):
        shapes = f"{retrieved_labels.shape} and {query_labels.shape}"
        raise ValueError(f"recall_at_k: labels must be [q, k] and [q], q >= 1; got {shapes}")
    check_labels("recall_at_k", retrieved_labels)
    check_labels("recall_at_k", query_labels)
    retrieved_labels, query_labels = jnp.asarray(retrieved_labels), jnp.asarray(query_labels)
    return jnp.mean(jnp.any(retrieved_labels == query_labels[:, None], axis=1), dtype=jnp.float32)
