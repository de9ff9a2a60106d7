"""A linear classifier on frozen features: the standard measure of what an encoder has learnt."""

import functools
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from care_jax.data import CLASS
from care_jax.devices import sharding
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import Measure, Missing, Numbers, prefix
from care_jax.evaluate.rows import Rows
from care_jax.train import optim


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """Two a labelling."""
    table = {}
    for labelling in labellings:
        name = f"{prefix(labelling, 'linear_')}probe_top1"
        table[name] = Measure(
            f"test images whose {labelling} a linear classifier on the features of the training images tells, mean "
            "over evaluate.probe.num_seeds initialisations and orders; in metrics.jsonl evaluate.monitor_examples "
            "training images where that is set",
            unit="%",
            better="higher" if labelling == CLASS else "",
            chance="share of the commonest class; 100 / number of classes, where they are of one size",
            heading=f"{prefix(labelling, 'linear_')[:-1]} probe",
            decimals=1,
            headline=labelling == CLASS,
        )
        table[f"{name}_spread"] = Measure("standard deviation over these seeds", unit="points", decimals=1)
    return table


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Mean and standard deviation over the probe's seeds, in percent, for each labelling."""
    settings = settings.probe
    found = {name: sets for name in embedded.labellings if (sets := embedded.labelled(name))}
    accuracies: dict[str, np.ndarray] = {}
    if found:
        train, _, test, _ = next(iter(found.values()))
        accuracies = linear_probe(
            train,
            {name: sets.train_labels for name, sets in found.items()},
            test,
            {name: sets.test_labels for name, sets in found.items()},
            num_classes={name: embedded.experiment.dataset.num_classes[name] for name in found},
            **training(settings, len(train), len(train)),
            num_seeds=settings.num_seeds,
        )
    numbers: Numbers = {}
    for labelling in embedded.labellings:
        name = f"{prefix(labelling, 'linear_')}probe_top1"
        numbers |= {name: None, f"{name}_spread": None}
        if labelling in accuracies:
            percent = 100.0 * accuracies[labelling]
            numbers[name] = float(percent.mean())
            numbers[f"{name}_spread"] = (
                float(percent.std(ddof=1))
                if len(percent) > 1
                else Missing("needs at least 2 seeds, evaluate.probe.num_seeds is 1")
            )
    return numbers


def training(settings: Any, num_examples: int, num_labelled: int) -> dict[str, Any]:
    """`optimizer`, `epochs` and `batch_size` of `linear_probe`.

    Args:
      settings: `config.evaluate.probe`.
      num_examples: training images; they are passed through `settings.epochs` times.
      num_labelled: of them, those that are trained on: more often, that there are as many updates, at the same rates.
    """
    of_all, of_those = (-(-count // min(settings.batch_size, count)) for count in (num_examples, num_labelled))
    optimizer = _optimizer(
        of_all,
        **{**settings, "step_epochs": tuple(settings.step_epochs)},  # lists, where they are read from a file
    )
    return {
        "optimizer": optimizer,
        "epochs": -(-settings.epochs * of_all // of_those),
        "batch_size": settings.batch_size,
    }


@functools.cache  # of equal settings the same one, for which the program is compiled already
def _optimizer(
    steps_per_epoch: int,
    *,
    optimizer: str,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    schedule: str,
    epochs: int,
    step_epochs: tuple[float, ...],
    step_factor: float,
    **of_the_probe: Any,
) -> optax.GradientTransformation:
    del of_the_probe
    rates = optim.make_schedule(
        schedule,
        learning_rate,
        num_steps=epochs * steps_per_epoch,
        boundaries=[round(epoch * steps_per_epoch) for epoch in step_epochs],
        factor=step_factor,
    )
    return optim.make_optimizer(optimizer, rates, weight_decay=weight_decay, momentum=momentum)


def linear_probe(
    train_features: Rows,
    train_labels: Mapping[str, np.ndarray],
    test_features: Rows,
    test_labels: Mapping[str, np.ndarray],
    *,
    num_classes: Mapping[str, int],
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    num_seeds: int = 3,
    first_seed: int = 0,
) -> dict[str, np.ndarray]:
    """Test accuracy of softmax regression on each labelling, trained once a seed by minibatches.

    A seed's probes of all labellings see the same minibatches, in one program; none knows of another.

    Features are frozen: made once, by the encoder in evaluation mode, of images that were not augmented. (The official
    code augments: for CIFAR and STL10 as in pre-training, with the encoder left in training mode; for ImageNet100 by
    random crops and flips, with the encoder in evaluation mode, and its weights start from N(0, 0.01), not from
    torch.nn.Linear's uniform range as here.) Every epoch visits every example once, in a drawn order; the last batch
    may be smaller.

    Args:
      train_features, test_features: n and m of w numbers, float32.
      train_labels, test_labels: of each labelling, [n], [m] int, in [0, num_classes).
      num_classes: of each labelling, c.
      optimizer: the paper's is Adam at 1e-3, weight decay 1e-6 added to the gradient.
      epochs, batch_size: 100 and 512 in the paper, for CIFAR.
      num_seeds: of initialisation and order.
      first_seed: they are this one and those after it.

    Returns:
      Of each labelling, accuracies [num_seeds] in [0, 1], exact over all m test examples; NaN where a logit is.

    Raises:
      ValueError: other than one label an example; a label outside [0, num_classes).
    """
    for part, of_part, rows in (("training", train_labels, train_features), ("test", test_labels, test_features)):
        for name, labels in of_part.items():
            if labels.shape != (len(rows),):
                raise ValueError(f"{part} labels {name!r} must be [{len(rows)}], as the features; got {labels.shape}")
            if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes[name]):
                raise ValueError(
                    f"{part} labels {name!r} run from {labels.min()} to {labels.max()}, outside the "
                    f"{num_classes[name]} classes"
                )
    train, test = train_features, test_features
    correct = _train_and_test(
        train.array,
        train.places,
        dict(train_labels),
        test.array,
        {name: _spread(test, labels) for name, labels in test_labels.items()},
        np.arange(first_seed, first_seed + num_seeds, dtype=np.int32),
        num_classes=tuple(num_classes.items()),
        optimizer=optimizer,
        epochs=epochs,
        batch_size=min(batch_size, len(train)),
        mesh=train.mesh,
    )
    return {name: np.asarray(counts) / np.float32(len(test)) for name, counts in correct.items()}


def _spread(rows: Rows, labels: np.ndarray) -> np.ndarray:
    """[N], the label of each row; -1 where it is no example's."""
    spread = np.full(len(rows.array), -1, np.int32)
    spread[rows.places] = labels
    return spread


@partial(jax.jit, static_argnames=("num_classes", "optimizer", "epochs", "batch_size", "mesh"))
def _train_and_test(
    train: jax.Array,
    places: jax.Array,
    train_labels: dict[str, jax.Array],
    test: jax.Array,
    test_labels: dict[str, jax.Array],
    seeds: jax.Array,
    *,
    mesh: Mesh,
    **settings: Any,
) -> dict[str, jax.Array]:
    """Number of correct test examples, [seeds], on every device; NaN where a logit is."""
    fit = partial(_fit, train, places, train_labels, mesh=mesh, **settings)
    fitted = jax.vmap(fit)(seeds)  # type: ignore[call-arg]
    correct = {
        name: jax.lax.map(partial(_count_correct, test, test_labels[name]), params)  # one seed's logits at a time
        for name, params in fitted.items()
    }
    return jax.lax.with_sharding_constraint(correct, sharding.replicated(mesh))


def _logits(params: dict[str, jax.Array], features: jax.Array) -> jax.Array:
    return features @ params["kernel"] + params["bias"]


def _count_correct(features: jax.Array, labels: jax.Array, params: dict[str, jax.Array]) -> jax.Array:
    logits = _logits(params, features)
    broken = jnp.any(jnp.isnan(logits) & (labels >= 0)[:, None])
    return jnp.where(broken, jnp.nan, jnp.sum(jnp.argmax(logits, axis=-1) == labels))


def _fit(
    features: jax.Array,
    places: jax.Array,
    labels: dict[str, jax.Array],
    seed: jax.Array,
    *,
    num_classes: tuple[tuple[str, int], ...],
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    mesh: Mesh,
) -> dict[str, dict[str, jax.Array]]:
    num_examples, width = len(places), features.shape[1]
    steps = -(-num_examples // batch_size)
    init_key, order_key = jax.random.split(jax.random.key(seed))
    kernel_key, bias_key = jax.random.split(init_key)
    bound = width**-0.5  # as torch.nn.Linear starts
    params = {
        name: {
            "kernel": jax.random.uniform(kernel_key, (width, count), minval=-bound, maxval=bound),
            "bias": jax.random.uniform(bias_key, (count,), minval=-bound, maxval=bound),
        }
        for name, count in num_classes
    }

    def loss(params: dict[str, dict[str, jax.Array]], examples: jax.Array) -> jax.Array:
        real = examples < num_examples
        examples = jnp.minimum(examples, num_examples - 1)
        # Each device gives the rows that it has, and takes the share of the batch that it works on.
        batch = jax.lax.with_sharding_constraint(features[places[examples]], sharding.along_axis(mesh, 0))
        # On a TPU the product takes bfloat16; without the barrier a copy of all features would be made in it.
        batch = jax.lax.optimization_barrier(batch)
        entropy = sum(
            optax.softmax_cross_entropy_with_integer_labels(_logits(own, batch), labels[name][examples])
            for name, own in params.items()
        )
        return jnp.sum(entropy * real) / jnp.sum(real)

    def update(carry: tuple, examples: jax.Array) -> tuple[tuple, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, examples), state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry: tuple, index: jax.Array) -> tuple[tuple, None]:
        order = jax.random.permutation(jax.random.fold_in(order_key, index), num_examples)
        # Examples past the end mark the places of the last batch that none fills.
        examples = jnp.concatenate([order, jnp.full(steps * batch_size - num_examples, num_examples)])
        return jax.lax.scan(update, carry, examples.reshape(steps, batch_size))

    (params, _), _ = jax.lax.scan(epoch, (params, optimizer.init(params)), jnp.arange(epochs))
    return params
