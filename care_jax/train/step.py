"""One update: make the views, embed them, take the loss and its gradient, move the parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from care_jax import models
from care_jax.augment import ViewPlan, ViewUniforms
from care_jax.devices import sharding
from care_jax.methods import Objective, Outputs, Update
from care_jax.train import placements
from care_jax.train.online_probe import OnlineProbe
from care_jax.train.placements import PLACEMENTS, Batch
from care_jax.train.state import TrainState

Embedded = tuple[Outputs, Any]  # and the running statistics
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    encoder: models.Encoder,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    plan: ViewPlan,
    *,
    placement: str,
    mesh: Mesh,
    remat: bool = False,
    micro_batches: int = 1,
    probe: OnlineProbe | None = None,
) -> TrainStep:
    """The update as a pure function of (state, batch); jit it with the state donated.

    Args:
      encoder: a backbone and its projection head.
      objective: what is minimised, of which views.
      optimizer: moves the parameters, those of the objective's heads too.
      schedule: learning rate by step, for the log alone.
      plan: the views to make.
      placement: "device": batch = {"images" `data.ResidentImages`, "indices" [b]}; "host": {"invariance_views"
        [2, b, s, s, 3], "equivariance_views" [2, e, s, s, 3]}; "decode": {"canvases" uint8 [b, c, c, 3], "boxes"
        [2, b, 4], "equivariance_images" uint8 [e, c', c', 3]}.
      mesh: the devices over which views are cut; losses and batch norm are over all of them.
      remat: recompute activations in the backward pass.
      micro_batches: m, equal parts that the batch is embedded in, one after the other; see `accumulated_gradients`.
      probe: trained beside; the step is then `OnlineProbe.beside` the update, of a pair of states.

    Returns:
      (state, batch) -> (state after the update, metrics: the loss, its terms, `gradient_norm`, `learning_rate`).
    """
    over_devices = sharding.along_axis(mesh, 1)
    networks = models.Networks.of(encoder, objective.heads, remat=remat)

    def embed(state: TrainState, params: Any, batch_stats: Any, batch: Batch, uniforms: ViewUniforms) -> Embedded:
        made = PLACEMENTS[placement](plan, batch, uniforms)
        images = {name: getattr(made, name) for name in ("invariance", "equivariance", "plain", "rotated")}
        made = made._replace(**jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, over_devices), images))
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, updates = networks.apply(
            variables, made, state.method_state, method=objective.embed, mutable=["batch_stats"]
        )
        return outputs, updates.get("batch_stats", {})

    def updated(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics, Outputs]:
        uniforms = plan.uniforms(state.step)

        def minimised(outputs: Outputs) -> tuple[jax.Array, Metrics]:
            return objective(outputs, state.method_state)

        if micro_batches == 1:

            def loss(params: Any) -> tuple[jax.Array, tuple[Outputs, Metrics, Any]]:
                outputs, batch_stats = embed(state, params, state.batch_stats, batch, uniforms)
                total, terms = minimised(outputs)
                return total, (outputs, terms, batch_stats)

            gradients, (outputs, terms, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
        else:
            gradients, (outputs, terms, batch_stats) = accumulated_gradients(
                lambda params, batch_stats, index: embed(
                    state, params, batch_stats, *placements.part(batch, uniforms, index, micro_batches)
                ),
                minimised,
                state.params,
                state.batch_stats,
                micro_batches,
            )
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {**terms, "gradient_norm": optax.tree.norm(gradients), "learning_rate": schedule(state.step)}
        update = Update(state.step, {"params": params, "batch_stats": batch_stats}, outputs)
        state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            optimizer_state=optimizer_state,
            method_state=objective.method.after_update(state.method_state, update),
        )
        return state, metrics, outputs

    update = sharding.within(mesh, updated)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return update(state, batch)[:2]

    return step if probe is None else probe.beside(update)


def accumulated_gradients(
    embed: Callable[[Any, Any, jax.Array], Embedded],
    loss: Callable[[Outputs], tuple[jax.Array, Metrics]],
    params: Any,
    batch_stats: Any,
    micro_batches: int,
) -> tuple[Any, tuple[Outputs, Metrics, Any]]:
    """The gradient of a loss of ALL outputs, with the activations of one micro-batch in memory at a time.

    All micro-batches are embedded first; the loss of all outputs is differentiated by them; then each micro-batch is
    embedded again, and its outputs' gradient carried back to the parameters. Unlike the mean of the micro-batches'
    own gradients this is exact: every embedding has its negatives, and its group, in the whole batch. The price is one
    more forward pass. Batch norm sees one micro-batch at a time, as it sees a batch; running averages take them in in
    order. So it is the undivided batch's gradient for networks without batch norm alone.

    Args:
      embed: (params, batch_stats, i) -> outputs of micro-batch i, each [v, b/m, ...], and the running statistics with
        it folded in. Micro-batch i is rows i, i + m, i + 2m, ... of the batch.
      loss: outputs, each [v, b, ...] -> the total and its terms.
      params: differentiated by.
      batch_stats: running statistics before.
      micro_batches: m.

    Returns:
      Gradients; and the outputs of the whole batch, the terms of the loss, and the running statistics after.

    Source: gradient caching (Gao et al., 2021), for batch norm's statistics and several kinds of views.
    """
    indices = jnp.arange(micro_batches)

    def forward(batch_stats: Any, index: jax.Array) -> tuple[Any, Outputs]:
        outputs, batch_stats = embed(params, batch_stats, index)
        return batch_stats, outputs

    def joined(x: jax.Array) -> jax.Array:
        """[m, v, b/m, ...] -> [v, b, ...]."""
        return jnp.moveaxis(x, 0, 2).reshape(x.shape[1], -1, *x.shape[3:])

    def parted(x: jax.Array) -> jax.Array:
        """[v, b, ...] -> [m, v, b/m, ...]."""
        return jnp.moveaxis(x.reshape(x.shape[0], -1, micro_batches, *x.shape[2:]), 2, 0)

    batch_stats, parts = jax.lax.scan(forward, batch_stats, indices)
    outputs = jax.tree.map(joined, parts)
    output_gradients, terms = jax.grad(loss, has_aux=True)(outputs)

    def backward(total: Any, part: tuple[jax.Array, Outputs]) -> tuple[Any, None]:
        index, gradients = part
        # In training mode outputs don't depend on the running statistics.
        _, to_params = jax.vjp(lambda params: embed(params, batch_stats, index)[0], params)
        return jax.tree.map(jnp.add, total, to_params(gradients)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    gradients, _ = jax.lax.scan(backward, zeros, (indices, jax.tree.map(parted, output_gradients)))
    return gradients, (outputs, terms, batch_stats)


def repeat(step: TrainStep) -> TrainStep:
    """Several steps in one call: (state, batches) -> (state after the last, metrics [k] of each).

    Args:
      step: as `make_train_step` returns it.

    Returns:
      A step whose batch holds the arrays of k batches stacked along a new first axis, but `images`, which is resident.
    """

    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        resident = {name: x for name, x in batches.items() if name not in placements.BATCH_AXES}
        stacked = {name: x for name, x in batches.items() if name in placements.BATCH_AXES}
        (count,) = {len(x) for x in stacked.values()}
        if count == 1:  # a loop of one is slower on some backends
            state, metrics = step(state, resident | jax.tree.map(lambda x: x[0], stacked))
            return state, jax.tree.map(lambda x: jnp.asarray(x)[None], metrics)
        return jax.lax.scan(lambda state, batch: step(state, resident | batch), state, stacked)

    return steps
