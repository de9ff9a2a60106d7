"""A linear classifier on frozen features: the standard measure of what an encoder has learnt."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from care_jax.data import CLASS
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import Measure, Missing, Numbers, prefix
from care_jax.train import optim


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """Two a labelling."""
    table = {}
    for labelling in labellings:
        name = f"{prefix(labelling, 'linear_')}probe_top1"
        table[name] = Measure(
            f"test images whose {labelling} a linear classifier on the features of the training images tells, mean "
            "over evaluate.probe.num_seeds initialisations and orders",
            unit="%",
            better="higher" if labelling == CLASS else "",
            chance="100 / number of classes, where they are of one size",
            heading=f"{prefix(labelling, 'linear_')[:-1]} probe",
            decimals=1,
            headline=labelling == CLASS,
        )
        table[f"{name}_spread"] = Measure("standard deviation over these seeds", unit="points", decimals=1)
    return table


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Mean and standard deviation over the probe's seeds, in percent, for each labelling."""
    settings = settings.probe
    numbers: Numbers = {}
    for labelling in embedded.labellings:
        name = f"{prefix(labelling, 'linear_')}probe_top1"
        numbers |= {name: None, f"{name}_spread": None}
        if sets := embedded.labelled(labelling):
            count = len(sets.train_labels)
            accuracies = 100.0 * linear_probe(
                *sets,
                num_classes=embedded.experiment.dataset.num_classes[labelling],
                optimizer=_optimizer(settings, steps_per_epoch=-(-count // min(settings.batch_size, count))),
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                num_seeds=settings.num_seeds,
            )
            numbers[name] = float(accuracies.mean())
            numbers[f"{name}_spread"] = (
                float(accuracies.std(ddof=1))
                if len(accuracies) > 1
                else Missing("needs at least 2 seeds, evaluate.probe.num_seeds is 1")
            )
    return numbers


def _optimizer(settings: Any, *, steps_per_epoch: int) -> optax.GradientTransformation:
    schedule = optim.make_schedule(
        settings.schedule,
        settings.learning_rate,
        num_steps=settings.epochs * steps_per_epoch,
        boundaries=[round(epoch * steps_per_epoch) for epoch in settings.step_epochs],
        factor=settings.step_factor,
    )
    return optim.make_optimizer(
        settings.optimizer, schedule, weight_decay=settings.weight_decay, momentum=settings.momentum
    )


def linear_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    num_classes: int,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    num_seeds: int = 3,
) -> np.ndarray:
    """Test accuracy of softmax regression, trained once a seed by minibatches.

    Features are frozen: made once, by the encoder in evaluation mode, of images that were not augmented. (The official
    code leaves the encoder in training mode and augments.) Every epoch visits every example once, in a drawn order; the
    last batch may be smaller.

    Args:
      train_features, test_features: [n, w], [m, w] float32.
      train_labels, test_labels: [n], [m] int, in [0, num_classes).
      num_classes: c.
      optimizer: the paper's is Adam at 1e-3, weight decay 1e-6 added to the gradient.
      epochs, batch_size: 100 and 512 in the paper, for CIFAR.
      num_seeds: of initialisation and order.

    Returns:
      Accuracies [num_seeds] in [0, 1], exact over all m test examples; NaN where a logit is.

    Raises:
      ValueError: a label outside [0, num_classes).
    """
    for name, labels in (("training", train_labels), ("test", test_labels)):
        if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(
                f"{name} labels run from {labels.min()} to {labels.max()}, outside the {num_classes} classes"
            )
    run = partial(
        _run_seed,
        jnp.asarray(train_features),
        jnp.asarray(train_labels),
        jnp.asarray(test_features),
        jnp.asarray(test_labels),
        num_classes=num_classes,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=min(batch_size, len(train_labels)),
    )
    return np.asarray(jax.jit(jax.vmap(run))(jnp.arange(num_seeds)))


def _run_seed(
    train_features: jax.Array,
    train_labels: jax.Array,
    test_features: jax.Array,
    test_labels: jax.Array,
    seed: jax.Array,
    *,
    num_classes: int,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
) -> jax.Array:
    num_examples, width = train_features.shape
    steps = -(-num_examples // batch_size)
    init_key, order_key = jax.random.split(jax.random.key(seed))
    kernel_key, bias_key = jax.random.split(init_key)
    bound = width**-0.5  # as torch.nn.Linear starts
    params = {
        "kernel": jax.random.uniform(kernel_key, (width, num_classes), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(bias_key, (num_classes,), minval=-bound, maxval=bound),
    }

    def logits(params: dict[str, jax.Array], features: jax.Array) -> jax.Array:
        return features @ params["kernel"] + params["bias"]

    def loss(params: dict[str, jax.Array], rows: jax.Array) -> jax.Array:
        real = rows < num_examples
        rows = jnp.minimum(rows, num_examples - 1)
        entropy = optax.softmax_cross_entropy_with_integer_labels(
            logits(params, train_features[rows]), train_labels[rows]
        )
        return jnp.sum(entropy * real) / jnp.sum(real)

    def update(carry: tuple, rows: jax.Array) -> tuple[tuple, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, rows), state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry: tuple, index: jax.Array) -> tuple[tuple, None]:
        order = jax.random.permutation(jax.random.fold_in(order_key, index), num_examples)
        # Rows past the end mark the places of the last batch that no example fills.
        rows = jnp.concatenate([order, jnp.full(steps * batch_size - num_examples, num_examples)])
        return jax.lax.scan(update, carry, rows.reshape(steps, batch_size))

    (params, _), _ = jax.lax.scan(epoch, (params, optimizer.init(params)), jnp.arange(epochs))
    scores = logits(params, test_features)
    accuracy = jnp.mean(jnp.argmax(scores, axis=-1) == test_labels)
    return jnp.where(jnp.any(jnp.isnan(scores)), jnp.nan, accuracy)
