"""The uniforms of one training step, a function of (seed, step) alone: a resumed run draws what it would have drawn."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from care_jax.augment.sample import NUM_UNIFORMS

DRAWS = ("group", "batch")
_STREAM = int.from_bytes(b"view", "big")  # keeps these bits apart from others drawn from the same seed and step


class ViewUniforms(NamedTuple):
    """Rows for `sample`; K = NUM_UNIFORMS."""

    first: jax.Array  # [b, K] one row an image, the invariance term's first view
    second: jax.Array  # [b, K]
    shared_first: jax.Array  # [e, K] row i is the draw of image i's group, the equivariance term's first view
    shared_second: jax.Array  # [e, K]
    third: jax.Array  # [b, K] one row an image, for a method that takes a third view


def draw_view_uniforms(
    seed: int,
    step: int | jax.Array,
    *,
    batch_size: int,
    equivariance_batch_size: int,
    num_groups: int,
    draws: str = "group",
) -> ViewUniforms:
    """Draws every view of one step.

    Args:
      seed: of the run.
      step: scalar; may be traced.
      batch_size: b, images of the invariance term.
      equivariance_batch_size: e, images of the equivariance term; 0 for none.
      num_groups: g; image i of the e belongs to group i // (e / g).
      draws: "group", one pair of augmentations a group (the paper's Algorithm 1), or "batch", one pair for all groups
        (what the official code does: its nested vmap repeats the draw).

    Returns:
      `ViewUniforms`, float32 in [0, 1).

    Raises:
      ValueError: `draws` is unknown, or the groups don't divide the images.

    >>> uniforms = draw_view_uniforms(0, 7, batch_size=4, equivariance_batch_size=4, num_groups=2)
    >>> [bool((row == uniforms.shared_first[0]).all()) for row in uniforms.shared_first]
    [True, True, False, False]
    """
    if draws not in DRAWS:
        raise ValueError(f"draws must be one of {DRAWS}; got {draws!r}")
    if num_groups < 1 or equivariance_batch_size % num_groups:
        raise ValueError(
            f"num_groups must divide equivariance_batch_size; got {num_groups} and {equivariance_batch_size}"
        )
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), _STREAM)
    first, second, shared_first, shared_second = jax.random.split(key, 4)
    draws_per_batch = num_groups if draws == "group" else 1

    def own(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (batch_size, NUM_UNIFORMS), jnp.float32)

    def shared(key: jax.Array) -> jax.Array:
        rows = jax.random.uniform(key, (draws_per_batch, NUM_UNIFORMS), jnp.float32)
        return jnp.repeat(rows, equivariance_batch_size // draws_per_batch, axis=0)

    third = jax.random.fold_in(key, 4)  # so that it does not change the four before it
    return ViewUniforms(own(first), own(second), shared(shared_first), shared(shared_second), own(third))
