"""All measures of one encoder: what the monitor asks during training, and everything at the end."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment, losses
from care_jax.data import CLASS, Examples
from care_jax.evaluate.embed import Embedded, Embedder
from care_jax.evaluate.equivariance_error import Equivariance, measure_equivariance
from care_jax.evaluate.knn import knn_top1
from care_jax.evaluate.linear_probe import linear_probe
from care_jax.evaluate.term_space import measure_moved
from care_jax.experiment.build import Experiment, evaluation_spec
from care_jax.train import optim

# Ends of the names of measures that say nothing of a single image: of pairs, or of one map of all.
_OF_SEVERAL = (
    "wahba_mean",
    "wahba_worst",
    "wahba_orthogonal_mean",
    "wahba_orthogonal_worst",
    "relative_equivariance_mean",
    "relative_equivariance_median",
    "group_residual_mean",
    "uniformity",
)


class Evaluation(NamedTuple):
    """What was measured.

    Attributes:
      numbers: by the names of summary.json; accuracies in percent; None where there is nothing to measure.
      equivariance: the measures behind its Wahba errors and relative equivariances, one entry a drawn augmentation.
      test: the held-out examples as embedded.
      notes: lines for the user: which measures could not be taken, and why; what was taken otherwise than set.
    """

    numbers: dict[str, Any]
    equivariance: Equivariance
    test: Embedded
    notes: tuple[str, ...] = ()


def make_embedder(experiment: Experiment, check: Callable[[], None] = lambda: None) -> Embedder:
    """An embedder with the experiment's encoder, devices and evaluation view; `check` as its own."""
    config = experiment.config
    return Embedder(
        experiment.encoder,
        experiment.mesh,
        evaluation_spec(config),
        batch_size=config.evaluate.batch_size,
        skipped=experiment.dataset.skipped,
        check=check,
    )


def make_monitor(experiment: Experiment, embedder: Embedder) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """The evaluator that the training loop calls: k-nearest-neighbour accuracy in percent.

    Nothing without labels, and nothing where features are not finite, which `evaluate` tells.
    """

    def monitor(variables: Mapping[str, Any]) -> dict[str, float]:
        dataset = experiment.dataset
        if CLASS not in dataset.num_classes:
            return {}
        train, test = embedder(variables, dataset.train), embedder(variables, dataset.test)
        accuracy = _knn(experiment, train, test, CLASS)
        return {"knn_top1": accuracy} if math.isfinite(accuracy) else {}

    return monitor


def evaluate(experiment: Experiment, embedder: Embedder, variables: Mapping[str, Any]) -> Evaluation:
    """Measures everything on the held-out examples.

    Args:
      experiment: its data set, its settings.
      embedder: of its encoder.
      variables: parameters and statistics to judge.
    """
    config, dataset = experiment.config, experiment.dataset
    test = embedder(variables, dataset.test)
    notes: list[str] = []
    numbers: dict[str, Any] = {"knn_top1": None}
    for name in ("linear_probe", "hue_probe"):
        numbers |= {f"{name}_top1": None, f"{name}_top1_spread": None}
    if dataset.num_classes:
        train = embedder(variables, dataset.train)
        if CLASS in dataset.num_classes:
            numbers["knn_top1"] = _knn(experiment, train, test, CLASS)
            if len(train.rows) < (k := config.evaluate.knn_k):
                notes.append(f"knn_top1: all {len(train.rows)} training images vote; evaluate.knn_k is {k}")
        for labelling in dataset.num_classes:
            accuracies = 100.0 * _probe(experiment, train, test, labelling)
            name = "linear_probe" if labelling == CLASS else f"{labelling}_probe"
            numbers[f"{name}_top1"] = float(accuracies.mean())
            numbers[f"{name}_top1_spread"] = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else math.nan
    measured = measure_equivariance(
        embedder,
        variables,
        dataset.test,
        experiment.plan.equivariance,
        num_augmentations=config.evaluate.num_augmentations,
        seed=config.evaluate.seed,
        embeddings=test.embeddings,
    )
    numbers |= {
        "wahba_mean": float(measured.wahba.mean()),
        "wahba_worst": float(measured.wahba.max()),
        "wahba_orthogonal_mean": float(measured.wahba_orthogonal.mean()),
        "wahba_orthogonal_worst": float(measured.wahba_orthogonal.max()),
        "displacement_mean": float(measured.displacement.mean()),
        "relative_equivariance_mean": float(measured.relative.mean()),
        "relative_equivariance_median": measured.relative_median,
        "relative_equivariance_examples": measured.num_pairwise,
    }
    numbers |= measure_moved(experiment, variables)
    numbers |= _alignment_and_uniformity(experiment, embedder, variables)
    numbers["test_examples"] = len(test.rows)
    missing = [name for name, value in numbers.items() if isinstance(value, float) and not math.isfinite(value)]
    reasons = {name: _reason(name, test, config.evaluate.probe.num_seeds) for name in missing}
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(name for name in missing if reasons[name] == reason)
        notes.append(f"could not be measured, null in summary.json: {names}: {reason}")
    return Evaluation(numbers | dict.fromkeys(missing), measured, test, tuple(notes))


def _reason(name: str, test: Embedded, num_seeds: int) -> str:
    """Why a measure is not a finite number."""
    if name.endswith(_OF_SEVERAL) and len(test.rows) < 2:
        return "needs at least 2 test images, there is 1"
    if name.endswith("_spread") and num_seeds < 2:
        return "needs at least 2 seeds, evaluate.probe.num_seeds is 1"
    finite = np.isfinite(test.features).all(axis=1) & np.isfinite(test.embeddings).all(axis=1)
    return f"not finite; the features or embeddings of {np.sum(~finite)} of {len(finite)} test images are not"


def _labels(examples: Examples, embedded: Embedded, labelling: str) -> np.ndarray:
    return examples.labels[labelling][embedded.rows]


def _knn(experiment: Experiment, train: Embedded, test: Embedded, labelling: str) -> float:
    dataset, settings = experiment.dataset, experiment.config.evaluate
    return 100.0 * knn_top1(
        train.features,
        _labels(dataset.train, train, labelling),
        test.features,
        _labels(dataset.test, test, labelling),
        num_classes=dataset.num_classes[labelling],
        k=min(settings.knn_k, len(train.rows)),
        temperature=settings.knn_temperature,
    )


def _probe(experiment: Experiment, train: Embedded, test: Embedded, labelling: str) -> np.ndarray:
    dataset, settings = experiment.dataset, experiment.config.evaluate.probe
    steps_per_epoch = -(-len(train.rows) // min(settings.batch_size, len(train.rows)))
    schedule = optim.make_schedule(
        settings.schedule,
        settings.learning_rate,
        num_steps=settings.epochs * steps_per_epoch,
        boundaries=[round(epoch * steps_per_epoch) for epoch in settings.step_epochs],
        factor=settings.step_factor,
    )
    return linear_probe(
        train.features,
        _labels(dataset.train, train, labelling),
        test.features,
        _labels(dataset.test, test, labelling),
        num_classes=dataset.num_classes[labelling],
        optimizer=optim.make_optimizer(
            settings.optimizer, schedule, weight_decay=settings.weight_decay, momentum=settings.momentum
        ),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        num_seeds=settings.num_seeds,
    )


def _alignment_and_uniformity(
    experiment: Experiment, embedder: Embedder, variables: Mapping[str, Any]
) -> dict[str, float]:
    """Of two views of the whole test set, an independent draw an image, temperature 1.

    alignment = -mean cosine of the two views (-1: invariant); uniformity = mean over anchors of the log of the MEAN
    over negatives of exp(cosine) (lower: more spread), so that it doesn't depend on the size of the test set.
    """
    config, dataset = experiment.config, experiment.dataset
    key = jax.random.fold_in(jax.random.key(config.evaluate.seed), 1)  # apart from the shared draws' key
    draws = jax.random.uniform(key, (2, len(dataset.test), augment.NUM_UNIFORMS))
    first, second = (
        jnp.asarray(embedder(variables, dataset.test, rows, experiment.plan.invariance).embeddings) for rows in draws
    )
    alignment = float(losses.alignment(first, second))
    if len(first) < 2:  # no negatives
        return {"alignment": alignment, "uniformity": math.nan}
    uniformity = float(jax.jit(losses.uniformity)(first, second))
    return {"alignment": alignment, "uniformity": uniformity - math.log(2 * len(first) - 2)}
