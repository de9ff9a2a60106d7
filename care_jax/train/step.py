"""One update: make the views, embed them in one pass, take the loss and its gradient, move the parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jax.sharding import Mesh

from care_jax import models
from care_jax.methods import Objective
from care_jax.train import sharding
from care_jax.train.state import TrainState
from care_jax.train.views import VIEWS, Batch, ViewPlan

Metrics = dict[str, jax.Array]
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
) -> TrainStep:
    """The update as a pure function of (state, batch); jit it with the state donated.

    Args:
      encoder: `models.Encoder`.
      objective: what is minimised.
      optimizer: moves the parameters.
      schedule: learning rate by step, for the log alone.
      plan: the views to make.
      placement: "device": batch = {"images" uint8 [n, h, w, 3], "indices" [b]}; "host": {"views" [2, b, s, s, 3],
        "shared_views" [2, e, s, s, 3]}; "split": {"crops" [2, b, s, s, 3], "centers" [e, s, s, 3]}.
      mesh: the devices over which views are cut; losses and batch norm are over all of them.
      remat: recompute activations in the backward pass.

    Returns:
      (state, batch) -> (state after the update, metrics: the loss, its terms, `gradient_norm`, `learning_rate`).
    """
    make_views = VIEWS[placement]
    over_devices = sharding.along_axis(mesh, 1)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        views, shared = make_views(plan, batch, state.step)
        views = jax.lax.with_sharding_constraint(views, over_devices)
        if shared is not None:
            shared = jax.lax.with_sharding_constraint(shared, over_devices)

        def loss(params: Any) -> tuple[jax.Array, tuple[Metrics, Any]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            embeddings, shared_embeddings, batch_stats = embed_views(encoder, variables, views, shared, remat=remat)
            total, terms = objective(embeddings, shared_embeddings)
            return total, (terms, batch_stats)

        gradients, (terms, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
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
