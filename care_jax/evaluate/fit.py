"""Training a whole backbone with a linear classifier on labels, and its test accuracy."""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax.sharding import Mesh

from care_jax import augment, data, models
from care_jax.augment import AugmentSpec, CloudSpec, Spec, augmented
from care_jax.data import CLASS, Examples
from care_jax.devices import sharding
from care_jax.devices.distributed import is_first
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.progress import progress
from care_jax.train import optim


class _State(NamedTuple):
    """What is trained, and what goes with it: {"backbone": ..., "classifier": ...}, statistics, the optimiser's."""

    params: Any
    batch_stats: Any
    optimizer: optax.OptState


class Fit:
    """Trains the backbone of an encoder and a linear classifier on labels, and tests them; compiled once.

    A device holds the parameters, the optimiser's state and its share of one batch. Images come from the host, a batch
    ahead: resident ones as they are, files decoded to the squares that the evaluation sees.

    Args:
      embedded: its encoder and data set; its variables are the start, and stay as they are.
      settings: `config.evaluate.finetune`.
      batch_size: images a step, which as many devices share as divide it, and all of several processes; of the last
        images of an epoch that fill no batch each epoch leaves out others.
      num_steps: updates.
    """

    def __init__(self, embedded: EmbeddedDataSet, settings: Any, *, batch_size: int, num_steps: int):
        experiment = embedded.experiment
        self.num_steps = num_steps
        self._batch_size = batch_size
        self._embedder = embedded.embedder
        self._num_classes = experiment.dataset.num_classes[CLASS]
        self._width = embedded.part("train").features.array.shape[1]
        self._start = {
            collection: embedded.variables.get(collection, {}).get("backbone", {})
            for collection in ("params", "batch_stats")
        }
        rates = optim.make_schedule(settings.schedule, settings.learning_rate, num_steps=num_steps)
        self._optimizer = optim.make_optimizer(
            settings.optimizer, rates, weight_decay=settings.weight_decay, momentum=settings.momentum
        )
        self._mesh = mesh = sharding.dividing(self._embedder.mesh, batch_size)
        whole = sharding.replicated(mesh)
        if mesh != self._embedder.mesh:
            self._start = jax.device_put(self._start, whole)
        backbone = experiment.encoder.backbone
        drawn = settings.get("augmentation", "crop_flip") == "crop_flip"  # clouds have no such setting
        spec = augmentation(experiment.plan.invariance) if drawn else self._embedder.spec
        step = partial(_step, backbone, self._optimizer, spec, mesh, experiment.config.model.remat)
        self._step = jax.jit(sharding.within(mesh, step), donate_argnums=0, out_shardings=whole)
        self._count = jax.jit(partial(_count, backbone, self._embedder.spec, mesh), out_shardings=whole)
        self._init = jax.jit(self._begin, out_shardings=whole)

    def __call__(self, train: Examples, test: Examples, seed: int) -> float:
        """Share of test images told right after training on others; NaN where training diverged.

        Args:
          train: labelled images, all of them readable.
          test: labelled images; those that can't be read do not count.
          seed: of the classifier's start, order and crops.
        """
        key = jax.random.key(seed)
        state = self._init(self._start, jax.random.fold_in(key, 0))
        batches = _batches(self._embedder, self._mesh, train, seed, self._batch_size, self.num_steps)
        # The first step holds the compilation, of which no speed can be told.
        state, loss = self._step(state, *next(batches), jax.random.fold_in(key, 1))
        jax.block_until_ready(loss)
        counted = ((self._batch_size, batch) for batch in batches)
        total = (self.num_steps - 1) * self._batch_size
        shown: Iterator[Any] = progress(counted, total, "image") if is_first() else (batch for _, batch in counted)
        for step, batch in enumerate(shown, 2):
            self._embedder.check()
            before = loss
            state, loss = self._step(state, *batch, jax.random.fold_in(key, step))
            jax.block_until_ready(before)  # no more than two batches are under way
        correct, count = 0.0, 0
        for images, indices, mask in self._embedder.batches(test):
            self._embedder.check()
            of_rows = np.where(mask, test.labels[CLASS][indices], -1)
            right, real = self._count(state, *_put(self._mesh, images, of_rows))
            correct, count = correct + float(right), count + int(real)
        return correct / count if count else math.nan

    def _begin(self, start: Any, key: jax.Array) -> _State:
        kernel_key, bias_key = jax.random.split(key)
        bound = self._width**-0.5  # as torch.nn.Linear starts, and the probe
        classifier = {
            "kernel": jax.random.uniform(kernel_key, (self._width, self._num_classes), minval=-bound, maxval=bound),
            "bias": jax.random.uniform(bias_key, (self._num_classes,), minval=-bound, maxval=bound),
        }
        # Copies: what is passed on as it is would be the run's own arrays, which the first step gives up.
        start = jax.tree.map(jnp.copy, start)
        params = {"backbone": start["params"], "classifier": classifier}
        return _State(params, start["batch_stats"], self._optimizer.init(params))


def augmentation(invariance: Spec) -> Spec:
    """The crops and flips of a branch alone; of clouds all that it draws."""
    if isinstance(invariance, CloudSpec):
        return invariance
    off = [f"{name}_probability" for name in ("jitter", "grayscale", "blur", "solarize")]
    off += ["rotation_degrees", "translation"]
    return dataclasses.replace(invariance, **dict.fromkeys(off, 0.0), operations=())  # type: ignore[arg-type]


def _step(
    backbone: linen.Module,
    optimizer: optax.GradientTransformation,
    spec: Spec,
    mesh: Mesh,
    remat: bool,
    state: _State,
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
) -> tuple[_State, jax.Array]:
    """The state after an update, and the loss before it; batch norm is over the whole batch."""
    still = isinstance(spec, AugmentSpec) and spec.crop == "center"
    _, views = augmented(None if still else augment.draw_uniforms(key, (len(images),), spec), images, spec)
    views = jax.lax.with_sharding_constraint(views, sharding.along_axis(mesh, 0))

    def loss(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params["backbone"], "batch_stats": state.batch_stats}
        features, updates = backbone.apply(
            variables,
            views[None],
            method=lambda module, views: models.encode_views(module, views, remat=remat),
            mutable=["batch_stats"],
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(_logits(params, features[0]), labels)
        return jnp.mean(entropy), updates.get("batch_stats", {})

    (value, batch_stats), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    return _State(optax.apply_updates(state.params, updates), batch_stats, optimizer_state), value


def _logits(params: Any, features: jax.Array) -> jax.Array:
    classifier = params["classifier"]
    return features.astype(jnp.float32) @ classifier["kernel"] + classifier["bias"]


def _count(
    backbone: linen.Module, spec: Spec, mesh: Mesh, state: _State, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How many images are told right, NaN where a logit is; and how many there are, those with labels above -1."""
    _, views = augmented(None, images, spec)
    views = jax.lax.with_sharding_constraint(views, sharding.along_axis(mesh, 0))
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    features: Any = backbone.apply(variables, views, train=False)
    logits, real = _logits(state.params, features), labels >= 0
    broken = jnp.any(~jnp.isfinite(logits) & real[:, None])
    return jnp.where(broken, jnp.nan, jnp.sum(jnp.argmax(logits, axis=-1) == labels)), jnp.sum(real)


def _batches(
    embedder: Embedder, mesh: Mesh, examples: Examples, seed: int, batch_size: int, num_steps: int
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Images uint8 [b, h, w, 3] and labels [b] of each step, every example at most once an epoch."""
    index, count = jax.process_index(), jax.process_count()
    steps_per_epoch = len(examples) // batch_size
    for start in range(0, num_steps, steps_per_epoch):
        epoch = np.stack(
            [
                data.batch_indices(seed, step, num_examples=len(examples), batch_size=batch_size)
                for step in range(start, start + steps_per_epoch)
            ]
        )
        own = np.split(epoch, count, axis=1)[index]
        for images, rows in zip(_images(embedder, examples, epoch, own), own, strict=True):
            yield _put(mesh, images, examples.labels[CLASS][rows])


def _images(embedder: Embedder, examples: Examples, epoch: np.ndarray, own: np.ndarray) -> Iterator[np.ndarray]:
    """Of each step of an epoch [steps, b], those of this process's rows."""
    if examples.resident:
        return (examples.pixels[rows] for rows in own)
    batches = data.batches_in_order(
        examples.take(epoch.ravel()),
        side=embedder.side,
        batch_size=epoch.shape[1],
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        skipped=embedder.skipped,
    )
    return (images for images, _, _ in batches)


def _put(mesh: Mesh, images: np.ndarray, labels: np.ndarray) -> tuple[jax.Array, jax.Array]:
    over_devices = sharding.along_axis(mesh, 0)
    return sharding.from_process(over_devices, images), sharding.from_process(over_devices, labels.astype(np.int32))
