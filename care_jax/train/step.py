"""One update: make the views, embed them in one pass, take the loss and its gradient, move the parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jax.sharding import Mesh

from care_jax import models
from care_jax.augment import ViewUniforms
from care_jax.methods import Objective
from care_jax.train import sharding, views
from care_jax.train.state import TrainState
from care_jax.train.views import VIEWS, Batch, ViewPlan

Metrics = dict[str, jax.Array]
Embeddings = tuple[jax.Array, jax.Array | None]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def embed_views(
    encoder: linen.Module,
    variables: Mapping[str, Any],
    views: jax.Array,
    shared: jax.Array | None,
    *,
    remat: bool = False,
) -> tuple[jax.Array, jax.Array | None, Mapping[str, Any]]:
    """Embeddings of all views in training mode, each view with its own batch statistics.

    Where both kinds of views have the same number of images, all four pass through the encoder at once.

    Args:
      encoder: `models.Encoder`.
      variables: its params and batch_stats.
      views: [2, b, h, w, 3].
      shared: [2, e, h, w, 3] or None.
      remat: recompute activations in the backward pass.

    Returns:
      Embeddings [2, b, d], embeddings [2, e, d] or None, and the running statistics with all views folded in.
    """
    if shared is not None and shared.shape == views.shape:
        both = jnp.concatenate([views, shared])
        (_, embeddings), batch_stats = models.encode_views(encoder, variables, both, remat=remat)
        return embeddings[:2], embeddings[2:], batch_stats
    (_, embeddings), batch_stats = models.encode_views(encoder, variables, views, remat=remat)
    if shared is None:
        return embeddings, None, batch_stats
    variables = {**variables, "batch_stats": batch_stats}
    (_, shared_embeddings), batch_stats = models.encode_views(encoder, variables, shared, remat=remat)
    return embeddings, shared_embeddings, batch_stats


def make_train_step(
    encoder: linen.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    plan: ViewPlan,
    *,
    placement: str,
    mesh: Mesh,
    remat: bool = False,
    micro_batches: int = 1,
) -> TrainStep:
    """The update as a pure function of (state, batch); jit it with the state donated.

    Args:
      encoder: `models.Encoder`.
      objective: what is minimised.
      optimizer: moves the parameters.
      schedule: learning rate by step, for the log alone.
      plan: the views to make.
      placement: "device": batch = {"images" uint8 [n, h, w, 3], "indices" [b]}; "host": {"views" [2, b, s, s, 3],
        "shared_views" [2, e, s, s, 3]}; "split": {"crops" [2, b, s, s, 3], "centers" [e, s, s, 3]}; "decode":
        {"canvases" [b, c, c, 3], "boxes" [2, b, 4], "centers"}.
      mesh: the devices over which views are cut; losses and batch norm are over all of them.
      remat: recompute activations in the backward pass.
      micro_batches: m, equal parts that the batch is embedded in, one after the other; see `accumulated_gradients`.

    Returns:
      (state, batch) -> (state after the update, metrics: the loss, its terms, `gradient_norm`, `learning_rate`).
    """
    over_devices = sharding.along_axis(mesh, 1)

    def embed(params: Any, batch_stats: Any, batch: Batch, uniforms: ViewUniforms) -> tuple[Embeddings, Any]:
        own, shared = VIEWS[placement](plan, batch, uniforms)
        own = jax.lax.with_sharding_constraint(own, over_devices)
        if shared is not None:
            shared = jax.lax.with_sharding_constraint(shared, over_devices)
        variables = {"params": params, "batch_stats": batch_stats}
        embeddings, shared_embeddings, batch_stats = embed_views(encoder, variables, own, shared, remat=remat)
        return (embeddings, shared_embeddings), batch_stats

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        uniforms = plan.uniforms(state.step)
        if micro_batches == 1:

            def loss(params: Any) -> tuple[jax.Array, tuple[Metrics, Any]]:
                embeddings, batch_stats = embed(params, state.batch_stats, batch, uniforms)
                total, terms = objective(*embeddings)
                return total, (terms, batch_stats)

            gradients, (terms, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
        else:
            gradients, terms, batch_stats = accumulated_gradients(
                lambda params, batch_stats, index: embed(
                    params, batch_stats, *views.part(batch, uniforms, index, micro_batches)
                ),
                objective,
                state.params,
                state.batch_stats,
                micro_batches,
            )
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
        metrics = {**terms, "gradient_norm": optax.tree.norm(gradients), "learning_rate": schedule(state.step)}
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            optimizer_state=optimizer_state,
        )
        return state, metrics

    return step


def accumulated_gradients(
    embed: Callable[[Any, Any, jax.Array], tuple[Embeddings, Any]],
    objective: Objective,
    params: Any,
    batch_stats: Any,
    micro_batches: int,
) -> tuple[Any, Metrics, Any]:
    """The gradient of a loss of ALL embeddings, with the activations of one micro-batch in memory at a time.

    All micro-batches are embedded first; the loss of all embeddings is differentiated by them; then each micro-batch is
    embedded again, and its embeddings' gradient carried back to the parameters. Unlike the mean of the micro-batches'
    own gradients this is exact: every embedding has its negatives, and its group, in the whole batch. The price is one
    more forward pass. Batch norm sees one micro-batch at a time, as it sees a batch; running averages take them in in
    order.

    Args:
      embed: (params, batch_stats, i) -> embeddings of micro-batch i, [2, b/m, d] and [2, e/m, d] or None, and the
        running statistics with it folded in. Micro-batch i is rows i, i + m, i + 2m, ... of the batch.
      objective: what is minimised, of [2, b, d] and [2, e, d] or None.
      params: differentiated by.
      batch_stats: running statistics before.
      micro_batches: m.

    Returns:
      Gradients, the terms of the loss, and the running statistics after.

    Source: gradient caching (Gao et al., 2021), for batch norm's statistics and several kinds of views.
    """
    indices = jnp.arange(micro_batches)

    def forward(batch_stats: Any, index: jax.Array) -> tuple[Any, Embeddings]:
        embeddings, batch_stats = embed(params, batch_stats, index)
        return batch_stats, embeddings

    def joined(x: jax.Array) -> jax.Array:
        """[m, 2, b/m, d] -> [2, b, d]."""
        return jnp.moveaxis(x, 0, 2).reshape(x.shape[1], -1, x.shape[-1])

    def parted(x: jax.Array) -> jax.Array:
        """[2, b, d] -> [m, 2, b/m, d]."""
        return jnp.moveaxis(x.reshape(x.shape[0], -1, micro_batches, x.shape[-1]), 2, 0)

    batch_stats, embeddings = jax.lax.scan(forward, batch_stats, indices)
    embedding_gradients, terms = jax.grad(lambda z: objective(*z), has_aux=True)(jax.tree.map(joined, embeddings))

    def backward(total: Any, part: tuple[jax.Array, Embeddings]) -> tuple[Any, None]:
        index, gradients = part
        # In training mode embeddings don't depend on the running statistics.
        _, to_params = jax.vjp(lambda params: embed(params, batch_stats, index)[0], params)
        return jax.tree.map(jnp.add, total, to_params(gradients)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    gradients, _ = jax.lax.scan(backward, zeros, (indices, jax.tree.map(parted, embedding_gradients)))
    return gradients, terms, batch_stats


def repeat(step: TrainStep) -> TrainStep:
    """Several steps in one call: (state, batches) -> (state after the last, metrics [k] of each).

    Args:
      step: as `make_train_step` returns it.

    Returns:
      A step whose batch holds the arrays of k batches stacked along a new first axis, but `images`, which is resident.
    """

    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        resident = {name: x for name, x in batches.items() if name not in views.BATCH_AXES}
        stacked = {name: x for name, x in batches.items() if name in views.BATCH_AXES}
        (count,) = {len(x) for x in stacked.values()}
        if count == 1:  # a loop of one is slower on some backends
            state, metrics = step(state, resident | jax.tree.map(lambda x: x[0], stacked))
            return state, jax.tree.map(lambda x: jnp.asarray(x)[None], metrics)
        return jax.lax.scan(lambda state, batch: step(state, resident | batch), state, stacked)

    return steps
