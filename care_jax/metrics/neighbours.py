"""What the neighbours of an embedding know of its class: weighted k-nearest-neighbour votes, recall of retrieval."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_temperature, matmul, normalize, promote


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
    (similarities,) = promote(similarities)
    temperature = as_temperature(temperature, similarities.dtype)
    weights = jnp.exp((similarities - jnp.max(similarities, axis=1, keepdims=True)) / temperature)

    # One neighbour at a time: no [q, k, c] array, and, unlike a scatter on a GPU, always summed in the same order.
    def add_vote(j, scores):
        return scores + jnp.where(labels[:, j, None] == jnp.arange(num_classes), weights[:, j, None], 0.0)

    scores = jax.lax.fori_loop(0, weights.shape[1], add_vote, jnp.zeros((len(weights), num_classes), weights.dtype))
    return jnp.where(jnp.any(jnp.isnan(weights), axis=1, keepdims=True), jnp.nan, scores)


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
      Predicted classes, int32 [q]; -1 where a similarity is NaN: for a query with NaN, or for all if the bank has one.

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
    (bank,), (queries,) = promote(bank), promote(queries)
    bank = normalize(bank, epsilon=0)

    def predict(query):
        similarities = matmul(bank, normalize(query, epsilon=0))
        nearest, neighbours = jax.lax.top_k(similarities, k)
        votes = nearest[None], bank_labels[neighbours][None]
        best = jnp.argmax(knn_vote(*votes, num_classes=num_classes, temperature=temperature)[0])
        # Of all similarities: which place NaN takes among the nearest depends on its sign.
        return jnp.where(jnp.any(jnp.isnan(similarities)), -1, best).astype(jnp.int32)

    return jax.lax.map(predict, queries, batch_size=max(1, min(block, len(queries))))


def recall_at_k(retrieved_labels: ArrayLike, query_labels: ArrayLike) -> jax.Array:
    """Recall@K of metric learning: the fraction of queries with at least one of their own class among the k retrieved.

    Args:
      retrieved_labels: Classes of the items retrieved for each query, integers [q, k] (the query itself left out).
      query_labels: Classes of the queries, integers [q].

    Returns:
      A float32 scalar in [0, 1]. Labels are integers: there is no NaN to pass on.
    """
    retrieved_labels, query_labels = jnp.asarray(retrieved_labels), jnp.asarray(query_labels)
    if retrieved_labels.ndim != 2 or retrieved_labels.shape[:1] != query_labels.shape or not len(query_labels):
        shapes = f"{retrieved_labels.shape} and {query_labels.shape}"
        raise ValueError(f"recall_at_k: labels must be [q, k] and [q], q >= 1; got {shapes}")
    return jnp.mean(jnp.any(retrieved_labels == query_labels[:, None], axis=1), dtype=jnp.float32)
