"""Optimisers and schedules with the arithmetic of the paper's (torch.optim's) ones."""

from collections.abc import Sequence

import jax
import optax

OPTIMIZERS = ("adam", "adamw", "sgd", "lars")
SCHEDULES = ("constant", "cosine", "step")
DECAYS = ("all", "kernels")
_NO_KERNELS = ("bias", "position_embedding")  # names of parameters, however many axes they have


def make_schedule(
    name: str,
    learning_rate: float,
    *,
    num_steps: int,
    warmup_steps: int = 0,
    boundaries: Sequence[int] = (),
    factor: float = 0.1,
) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
      name: "constant"; "cosine", down to 0 at `num_steps`; "step", times `factor` at each boundary.
      learning_rate: the peak, for the global batch.
      num_steps: length of the run, in steps.
      warmup_steps: steps of linear increase from 0, before the schedule proper (which keeps its end at `num_steps`).
      boundaries: steps, for "step".
      factor: for "step".

    Raises:
      ValueError: an unknown name, or a warm-up as long as the run, which has steps.
    """
    if name not in SCHEDULES:
        raise ValueError(f"optimizer.schedule is {name!r}; choose one of {', '.join(SCHEDULES)}")
    if warmup_steps and warmup_steps >= num_steps > 0:  # a run of no steps has no rate
        raise ValueError(
            f"optimizer.warmup_epochs: the warm-up of {warmup_steps} steps is not shorter than the run of {num_steps}"
        )
    rest = num_steps - warmup_steps
    if name == "cosine":
        schedule = optax.cosine_decay_schedule(learning_rate, decay_steps=max(rest, 1))
    elif name == "step":
        # join_schedules restarts the count after the warm-up, so boundaries move with it.
        scales: dict[int, float] = {}
        for step in boundaries:  # of a short run, two may fall on one step
            boundary = max(step - warmup_steps, 0)
            scales[boundary] = factor * scales.get(boundary, 1.0)
        schedule = optax.piecewise_constant_schedule(learning_rate, scales)
    else:
        schedule = optax.constant_schedule(learning_rate)
    if not warmup_steps:
        return schedule
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, schedule], [warmup_steps])


def is_kernel(params: optax.Params) -> optax.Params:
    """True for weights of convolutions and linear layers; False for what has one axis (biases, norms), or is named so.

    Biases of attention have an axis for its heads, and embeddings of positions have two or three.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim > 1 and getattr(path[-1], "key", "") not in _NO_KERNELS, params
    )


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    decay: str = "all",
) -> optax.GradientTransformation:
    """One of the paper's optimisers.

    adam and sgd add `weight_decay * parameter` to the gradient before anything else, as torch.optim.Adam and
    torch.optim.SGD do; adamw subtracts `learning_rate * weight_decay * parameter` from the parameter (Loshchilov and
    Hutter, 2019); lars scales each kernel's decayed gradient by |parameter| / |gradient| * 0.001 (You et al., 2017)
    and leaves all other parameters unscaled (`is_kernel`).

    Args:
      name: "adam", "adamw", "sgd" or "lars".
      schedule: learning rate by step.
      weight_decay: coefficient.
      momentum: of sgd and lars; the learning rate multiplies the momentum buffer, as in torch.
      decay: "all", every parameter decays; "kernels", those of `is_kernel`: no biases, norms, embeddings of positions.

    Raises:
      ValueError: an unknown name.
    """
    if decay not in DECAYS:
        raise ValueError(f"optimizer.decay is {decay!r}; choose one of {', '.join(DECAYS)}")
    mask = is_kernel if decay == "kernels" else None
    decayed = optax.add_decayed_weights(weight_decay, mask) if weight_decay else optax.identity()
    if name == "adam":
        return optax.chain(decayed, optax.scale_by_adam(), optax.scale_by_learning_rate(schedule))
    if name == "adamw":
        return optax.adamw(schedule, weight_decay=weight_decay, mask=mask)
    if name == "sgd":
        return optax.chain(decayed, optax.trace(momentum), optax.scale_by_learning_rate(schedule))
    if name == "lars":
        trust = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), is_kernel)
        # The rate multiplies the scaled gradient before the momentum, as in the LARS paper and optax.lars.
        return optax.chain(decayed, trust, optax.scale_by_learning_rate(schedule), optax.trace(momentum))
    raise ValueError(f"optimizer.name is {name!r}; choose one of {', '.join(OPTIMIZERS)}")
