"""Weighted k-nearest-neighbour accuracy on frozen features: the monitor during training."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from care_jax.data import CLASS
from care_jax.evaluate.embedded import EmbeddedDataSet, Labelled
from care_jax.evaluate.measure import Measure, Numbers, prefix
from care_jax.evaluate.rows import Rows
from care_jax.metrics.neighbours import check_labels, in_blocks, merge_nearest, nearest, winners

_QUERIES_AT_ONCE = 1024


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """One a labelling."""
    return {
        f"{prefix(labelling)}knn_top1": Measure(
            f"test images whose {labelling} wins the vote of their evaluate.knn_k nearest training images in cosine of "
            "the features, weights exp(cos / evaluate.knn_temperature); in metrics.jsonl evaluate.monitor_examples "
            "training images where that is set",
            unit="%",
            better="higher" if labelling == CLASS else "",
            chance="share of the commonest class; 100 / number of classes, where they are of one size",
            heading=f"{prefix(labelling).replace('_', ' ')}kNN",
            decimals=1,
            headline=labelling == CLASS,
        )
        for labelling in labellings
    }


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Percent for each labelling; all training images vote where there are no `settings.knn_k`, which is noted."""
    numbers: Numbers = {}
    for labelling in embedded.labellings:
        name = f"{prefix(labelling)}knn_top1"
        numbers[name] = None
        if sets := embedded.labelled(labelling):
            found = embedded.once(_nearest_of_all, settings)
            k = found[0].shape[1]
            num_classes = embedded.experiment.dataset.num_classes[labelling]
            accuracy = top1_of_votes(found, sets, num_classes=num_classes, temperature=settings.knn_temperature)
            numbers[name] = 100.0 * accuracy
            if k < settings.knn_k:
                embedded.notes.append(f"{name}: all {k} training images vote; evaluate.knn_k is {settings.knn_k}")
    return numbers


def nearest_examples(bank: Rows, queries: Rows, *, k: int) -> tuple[jax.Array, jax.Array]:
    """The k examples of the bank nearest to each query in cosine, as `metrics.neighbours.nearest` has them.

    Every device looks among its own rows of the bank, for the queries of all, a block at a time; then each takes the
    candidates that all have found for its own queries. So a device holds its share of bank and queries, and a few
    arrays [1024, 16384]; what it sends grows with neither the bank nor its width. Cosines are those of one device to
    their rounding, and so are the neighbours but for ties that it makes or breaks.

    Args:
      bank: n examples.
      queries: m examples, on the same devices.
      k: neighbours, at most n.

    Returns:
      Cosines, highest first, and examples of the bank, int32: [M, k], row by row those of `queries.array`.

    Raises:
      ValueError: k is not in [1, n].
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"nearest_examples: k must be between 1 and the bank's {len(bank)} examples; got {k}")
    return _search(bank.array, bank.examples(), queries.array, k=k, mesh=bank.mesh)


def top1_of_votes(found: tuple[jax.Array, jax.Array], sets: Labelled, *, num_classes: int, temperature: float) -> float:
    """Share of test examples whose class wins the vote of their nearest training examples, weights exp(cos / tau).

    Args:
      found: of `nearest_examples`.
      sets: training and test examples.
      num_classes: c.
      temperature: tau of the weights (Wu et al., 2018, have k 200 and tau 0.07; the paper tau of its loss).

    Returns:
      Accuracy in [0, 1], exact over all test examples; NaN if any feature is.

    Raises:
      ValueError: other than one label an example; labels that are no integers, or more than JAX's hold.
    """
    predicted = _predicted(found, sets, num_classes=num_classes, temperature=temperature)
    return float(np.mean(predicted == sets.test_labels)) if (predicted >= 0).all() else math.nan


def votes(embedded: EmbeddedDataSet, settings: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Classes of the test images and those that their neighbours vote for, [m] each.

    None where there are no classes, or a feature is not finite.
    """
    sets = embedded.labelled(CLASS)
    if sets is None:
        return None
    predicted = _predicted(
        embedded.once(_nearest_of_all, settings),
        sets,
        num_classes=embedded.experiment.dataset.num_classes[CLASS],
        temperature=settings.knn_temperature,
    )
    return (sets.test_labels, predicted) if (predicted >= 0).all() else None


def _predicted(
    found: tuple[jax.Array, jax.Array], sets: Labelled, *, num_classes: int, temperature: float
) -> np.ndarray:
    """Classes [m] by the vote; -1 where there is NaN."""
    cosines, examples = found
    train, test = sets.train_features, sets.test_features
    for part, labels, rows in (("training", sets.train_labels, train), ("test", sets.test_labels, test)):
        if labels.shape != (len(rows),):
            raise ValueError(f"{part} labels must be [{len(rows)}], as the features; got {labels.shape}")
        check_labels(f"{part} examples", labels)
    classes = _vote(cosines, examples, sets.train_labels, temperature, num_classes=num_classes, mesh=test.mesh)
    return np.asarray(classes)[test.places]


def _nearest_of_all(embedded: EmbeddedDataSet, settings: Any) -> tuple[jax.Array, jax.Array]:
    train = embedded.part("train").features
    return nearest_examples(train, embedded.part("test").features, k=min(settings.knn_k, len(train)))


@partial(jax.jit, static_argnames=("k", "mesh"))
def _search(
    bank: jax.Array, examples: jax.Array, queries: jax.Array, *, k: int, mesh: Mesh
) -> tuple[jax.Array, jax.Array]:
    def search(bank: jax.Array, examples: jax.Array, queries: jax.Array) -> Any:
        def among_own(queries: jax.Array) -> tuple[jax.Array, jax.Array]:
            queries = jax.lax.all_gather(queries, "data", tiled=True)
            cosines, rows = nearest(queries, bank, k=min(k, len(bank)), counted=examples >= 0)
            return cosines, examples[rows]

        def among_all(queries: jax.Array) -> tuple[jax.Array, jax.Array]:
            candidates = among_own(queries)
            if mesh.size == 1:
                return candidates
            return merge_nearest(*jax.lax.all_to_all(candidates, "data", 0, 1, tiled=True), k=k)

        return in_blocks(among_all, queries, block=-(-_QUERIES_AT_ONCE // mesh.size))

    # check_vma would have the loops' first values marked as differing from device to device.
    return jax.shard_map(search, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)(
        bank, examples, queries
    )


@partial(jax.jit, static_argnames=("num_classes", "mesh"))
def _vote(
    cosines: jax.Array, examples: jax.Array, labels: jax.Array, temperature: float, *, num_classes: int, mesh: Mesh
) -> jax.Array:
    """Classes [M], on every device; -1 where there is NaN."""

    def vote(cosines: jax.Array, examples: jax.Array, labels: jax.Array, temperature: jax.Array) -> jax.Array:
        winner = partial(winners, num_classes=num_classes, temperature=temperature)
        own = in_blocks(lambda cosines, rows: winner(cosines, labels[rows]), cosines, examples, block=_QUERIES_AT_ONCE)
        return jax.lax.all_gather(own, "data", tiled=True)

    specs = P("data"), P("data"), P(), P()
    return jax.shard_map(vote, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)(
        cosines, examples, labels, jnp.asarray(temperature)
    )
