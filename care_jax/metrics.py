"""Measures of what an augmentation does to embeddings, and of what their neighbours know. Pure, jit-able, only JAX.

`f` [n, d] holds the embeddings f(x_i) in rows, `fa` [n, d] the embeddings f(a(x_i)) under ONE augmentation a.
Everything is computed in float32 at least, with full-precision matrix products; float64 stays float64.
Raises: every function raises a `ValueError`, naming itself and the value, for shapes or ranges other than documented.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_PAIR_ROWS = 256  # Rows of pairs in memory at a time: 10 MB an intermediate for 10,000 columns in float32.

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def wahba(f: ArrayLike, fa: ArrayLike, *, special: bool = True) -> tuple[jax.Array, jax.Array]:
    """The rotation that best carries `f` to `fa`, and how far it misses (Wahba's problem, orthogonal Procrustes).

        R = argmin ||f R' - fa||_F over SO(d), or over O(d) with special=False
        fa' f = U S V'   ->   R = U diag(1, ..., 1, det U det V) V',   in O(d): R = U V'

    error / sqrt(n) is the root-mean-square miss of one embedding. With fewer than d independent rows R is one of
    many minimisers, and SO(d) fits as well as O(d).

    Args:
      f: Embeddings f(x_i), [n, d].
      fa: Embeddings f(a(x_i)), [n, d].
      special: True for rotations, SO(d); False to allow reflections too, O(d). Static under jit.

    Returns:
      (rotation [d, d], error []): `fa` is close to `f @ rotation.T`, and error is their Frobenius distance.

    Example:
      >>> import jax.numpy as jnp
      >>> f, quarter_turn = jnp.eye(2), jnp.array([[0.0, -1.0], [1.0, 0.0]])
      >>> rotation, error = wahba(f, f @ quarter_turn.T)
      >>> bool(jnp.allclose(rotation, quarter_turn)), bool(error < 1e-6)
      (True, True)

    Source: CARE, section 4 (Wahba's problem, solved by the SVD); its rows are our columns.
    """
    f, fa = _as_pair("wahba", f, fa)
    u, _, vt = jnp.linalg.svd(_matmul(fa.T, f), full_matrices=False)
    if special:
        # The last singular value is the smallest: flipping its direction is the cheapest way back to det R = 1.
        handedness = jnp.sign(jnp.linalg.det(u) * jnp.linalg.det(vt))
        u = u.at[:, -1].multiply(handedness)
    rotation = _matmul(u, vt)
    return rotation, jnp.linalg.norm(_matmul(f, rotation.T) - fa)


def composition_error(
    rotation_first: ArrayLike, rotation_second: ArrayLike, f: ArrayLike, f_composed: ArrayLike
) -> jax.Array:
    """How far R_second R_first is from carrying f(x) to f(a_second(a_first(x))).

        || f (R_second R_first)' - f_composed ||_F / || f_composed ||_F

    On unit rows this is the root-mean-square miss of one embedding: 0 is exact, sqrt(2) what unrelated directions
    give, 2 the opposite point. No rotation can do better than that of `wahba(f, f_composed)`.

    Args:
      rotation_first, rotation_second: R of the augmentation that acts first and of the second, [d, d], from `wahba`.
      f: Embeddings f(x_i), [n, d].
      f_composed: Embeddings f(a_second(a_first(x_i))), [n, d]; not all zero.

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> f, quarter_turn = jnp.eye(2), jnp.array([[0.0, -1.0], [1.0, 0.0]])
      >>> print(composition_error(quarter_turn, quarter_turn, f, -f))  # two quarter turns are a half turn
      0.0

    Source: CARE, Corollary 1 and section 4.
    """
    f, f_composed = _as_pair("composition_error", f, f_composed)
    predicted = f
    for name, rotation in (("rotation_first", rotation_first), ("rotation_second", rotation_second)):
        rotation = jnp.asarray(rotation, f.dtype)
        if rotation.shape != (f.shape[1], f.shape[1]):
            raise ValueError(f"composition_error: {name} must be [d, d], d = {f.shape[1]}; got {rotation.shape}")
        predicted = _matmul(predicted, rotation.T)
    return jnp.linalg.norm(predicted - f_composed) / jnp.linalg.norm(f_composed)


def relative_equivariance(f: ArrayLike, fa: ArrayLike) -> jax.Array:
    """Relative rotational equivariance, gamma: 0 if the augmentation keeps every distance between embeddings.

        mean over pairs i != j of  (||fa_j - fa_i||^2 - ||f_j - f_i||^2)^2 / (||fa_j - f_j||^2 + ||fa_i - f_i||^2)^2

    A pair of which neither point moved has ratio 0/0 and counts as 0, because its distance did not change; exactly
    invariant embeddings therefore score 0. A pair that moved by a small step can have a ratio of 1/step^2 and rule
    the mean: `relative_equivariance_median` is the robust companion. Memory is O(n d): rows go in blocks.

    Args:
      f: Embeddings f(x_i), [n, d].
      fa: Embeddings f(a(x_i)), [n, d], one augmentation for all rows.

    Returns:
      A scalar.

    Raises:
      ValueError: If the shapes differ, are not [n, d], or n < 2.

    Example:
      >>> import jax.numpy as jnp
      >>> f, shear = jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 1.0]])
      >>> print(relative_equivariance(f, -f), relative_equivariance(f, f @ shear))  # (1 - 2)^2 / (0 + 1)^2
      0.0 1.0

    Source: CARE, section 4 (gamma), for one augmentation: average over augmentations outside.
    """
    points = _pair_terms("relative_equivariance", f, fa)
    n = len(points[0])

    def row_sum(row):
        index, point = row
        return jnp.sum(jnp.where(jnp.arange(n) == index, 0.0, _ratios_of(point, points)))

    row_sums = jax.lax.map(row_sum, (jnp.arange(n), points), batch_size=min(n, _PAIR_ROWS))
    return jnp.mean(row_sums / (n - 1))


def relative_equivariance_ratios(f: ArrayLike, fa: ArrayLike) -> jax.Array:
    """The ratio of every pair, [n, n], whose mean over i != j is `relative_equivariance`.

    Symmetric; the diagonal is NaN, so that a statistic which forgets to leave it out shows. Pairs of which neither
    point moved are 0, as in the mean. Memory is O(n^2). Arguments and errors are those of `relative_equivariance`.
    """
    points = _pair_terms("relative_equivariance_ratios", f, fa)
    n = len(points[0])
    ratios = jax.lax.map(lambda point: _ratios_of(point, points), points, batch_size=min(n, _PAIR_ROWS))
    return jnp.where(jnp.eye(n, dtype=bool), jnp.nan, ratios)


def relative_equivariance_median(f: ArrayLike, fa: ArrayLike) -> jax.Array:
    """Median over pairs i != j of the ratios of `relative_equivariance`: one hardly moved pair cannot rule it.

    Memory is O(n^2), and all pairs are sorted: take a subset of more than a few thousand rows. Arguments, result
    and errors are those of `relative_equivariance`.
    """
    ratios = relative_equivariance_ratios(f, fa)
    n = len(ratios)
    # In rows of n + 1 the diagonal is one column. (nanmedian would pass over the NaNs of broken embeddings too.)
    return jnp.median(ratios.reshape(-1)[1:].reshape(n - 1, n + 1)[:, :-1])


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
      Scores [q, c].

    Example:
      >>> import jax.numpy as jnp
      >>> scores = knn_vote(jnp.array([[0.9, 0.8, 0.8]]), jnp.array([[0, 1, 1]]), num_classes=2, temperature=1.0)
      >>> print(scores.argmax(axis=1))  # two good neighbours outvote the best one
      [1]

    Source: Wu et al. 2018 (instance discrimination), section 3.4; the kNN monitor of the official CARE code.
    """
    similarities, labels = jnp.asarray(similarities), jnp.asarray(labels)
    if similarities.ndim != 2 or similarities.shape != labels.shape or similarities.shape[1] == 0:
        raise ValueError(f"knn_vote: both arguments must be [q, k], k >= 1; got {similarities.shape}, {labels.shape}")
    if num_classes < 1:
        raise ValueError(f"knn_vote: num_classes must be positive; got {num_classes}")
    if not isinstance(temperature, jax.Array) and not temperature > 0:
        raise ValueError(f"knn_vote: temperature must be positive; got {temperature}")
    similarities = similarities.astype(jnp.promote_types(similarities.dtype, jnp.float32))
    weights = jnp.exp((similarities - jnp.max(similarities, axis=1, keepdims=True)) / temperature)

    # One neighbour at a time: no [q, k, c] array, and, unlike a scatter on a GPU, always summed in the same order.
    def add_vote(j, scores):
        return scores + jnp.where(labels[:, j, None] == jnp.arange(num_classes), weights[:, j, None], 0.0)

    return jax.lax.fori_loop(0, weights.shape[1], add_vote, jnp.zeros((len(weights), num_classes), weights.dtype))


def weighted_knn(
    queries: ArrayLike,
    bank: ArrayLike,
    bank_labels: ArrayLike,
    *,
    k: int,
    temperature: float | jax.Array,
    num_classes: int,
    block: int = 1024,
) -> jax.Array:
    """Class of each query by the weighted vote of its k nearest bank rows, weights exp(cosine / temperature).

    Neighbours are exact. Equal scores go to the lower class, equal cosines to the earlier row. A zero row has cosine 0.

    Args:
      queries: Embeddings to classify, [q, d]; normalised here.
      bank: Labelled embeddings, [m, d]; normalised here.
      bank_labels: Classes of the bank rows, integers [m] in [0, num_classes).
      k: Number of neighbours that vote, at most m.
      temperature, num_classes: As in `knn_vote`.
      block: Queries handled at a time; memory is about two arrays [block, m].

    Returns:
      Predicted classes, int32 [q].

    Raises:
      ValueError: If a shape does not fit, k is not in [1, m], or num_classes or temperature is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> bank, labels = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), jnp.array([4, 4, 7])
      >>> queries = jnp.array([[5.0, 1.0], [0.0, 2.0]])
      >>> print(weighted_knn(queries, bank, labels, k=1, temperature=0.5, num_classes=10))
      [4 7]

    Source: the kNN monitor of the official CARE code (k 200, temperature that of the loss; ImageNet100: k 20).
    """
    queries, bank, bank_labels = jnp.asarray(queries), jnp.asarray(bank), jnp.asarray(bank_labels)
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"weighted_knn: queries [q, d] and bank [m, d] needed; got {queries.shape}, {bank.shape}")
    if bank_labels.shape != bank.shape[:1]:
        raise ValueError(f"weighted_knn: {len(bank)} bank rows need as many labels; got shape {bank_labels.shape}")
    if not 1 <= k <= len(bank):
        raise ValueError(f"weighted_knn: k must be between 1 and the bank's {len(bank)} rows; got {k}")
    bank = _normalised(bank)

    def predict(query):
        similarities, neighbours = jax.lax.top_k(_matmul(bank, _normalised(query)), k)
        votes = similarities[None], bank_labels[neighbours][None]
        return jnp.argmax(knn_vote(*votes, num_classes=num_classes, temperature=temperature)[0]).astype(jnp.int32)

    return jax.lax.map(predict, queries, batch_size=max(1, min(block, len(queries))))


def recall_at_k(retrieved_labels: ArrayLike, query_labels: ArrayLike) -> jax.Array:
    """Recall@K of metric learning: the fraction of queries with at least one of their own class among the k retrieved.

    Args:
      retrieved_labels: Classes of the items retrieved for each query, integers [q, k] (the query itself left out).
      query_labels: Classes of the queries, integers [q].

    Returns:
      A float32 scalar in [0, 1].
    """
    retrieved_labels, query_labels = jnp.asarray(retrieved_labels), jnp.asarray(query_labels)
    if retrieved_labels.ndim != 2 or retrieved_labels.shape[:1] != query_labels.shape or not len(query_labels):
        shapes = f"{retrieved_labels.shape} and {query_labels.shape}"
        raise ValueError(f"recall_at_k: labels must be [q, k] and [q], q >= 1; got {shapes}")
    return jnp.mean(jnp.any(retrieved_labels == query_labels[:, None], axis=1), dtype=jnp.float32)


def _pair_terms(name: str, f: ArrayLike, fa: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Per point: its step fa - f, its total fa + f, their inner product, and the squared length of the step."""
    f, fa = _as_pair(name, f, fa)
    if len(f) < 2:
        raise ValueError(f"{name}: a pair needs at least 2 rows; got {len(f)}")
    step, total = fa - f, fa + f
    return step, total, jnp.sum(step * total, axis=-1), jnp.sum(step**2, axis=-1)


def _ratios_of(point, points) -> jax.Array:
    """The ratio of one point with each of n points, [n]."""
    step, total, growth, moved = point
    steps, totals, growths, all_moved = points
    # ||fa_j - fa_i||^2 - ||f_j - f_i||^2 = (step_j - step_i)·(total_j - total_i): no two distances are subtracted,
    # so what is left of float32 does not depend on how small the steps are.
    change = growth + growths - _matmul(totals, step) - _matmul(steps, total)
    moved = moved + all_moved
    # == 0, not > 0: NaN embeddings must come out as NaN. Divide before squaring, as moved^2 underflows early.
    return jnp.where(moved == 0, 0.0, (change / jnp.where(moved == 0, 1.0, moved)) ** 2)


def _as_pair(name: str, f: ArrayLike, fa: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both sets of embeddings as checked arrays of one type, float32 at least."""
    f, fa = jnp.asarray(f), jnp.asarray(fa)
    if f.ndim != 2 or f.shape != fa.shape or f.size == 0:
        raise ValueError(f"{name}: both arguments must have one shape [n, d], not empty; got {f.shape} and {fa.shape}")
    dtype = jnp.promote_types(jnp.result_type(f, fa), jnp.float32)
    return f.astype(dtype), fa.astype(dtype)


def _normalised(rows: jax.Array) -> jax.Array:
    rows = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    norm = jnp.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / jnp.where(norm == 0, 1.0, norm)
