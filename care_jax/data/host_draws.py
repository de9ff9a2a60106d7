"""Draws made on the host, by JAX as on the device: no draw depends on how another library rounds a square root.

Compiled functions are cached: another pipeline of the same shapes (a resumed run, a benchmark) compiles none anew.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.augment import Augmentation, AugmentSpec, ViewPlan, ViewUniforms, image_spec
from care_jax.data.decode import Box

# Images that one call from `tf.data` reads and decodes: enough to share what a call costs (its way into Python, the
# boxes' way through JAX), few enough for the threads to share a batch. Their files are in memory at once.
IMAGES_A_CALL = 16


def on_host(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled for this process's CPU, arrays in and out: the accelerator is left to the training step."""
    compiled = jax.jit(function)

    def call(*arguments: Any) -> Any:
        with jax.default_device(_host_device()):
            return jax.device_get(compiled(*arguments))

    return call


@functools.cache
def step_uniforms(plan: ViewPlan) -> Callable[[int], ViewUniforms]:
    """`plan.uniforms` on the host."""
    return on_host(plan.uniforms)


@functools.cache
def step_augmentations(
    plan: ViewPlan, size: tuple[int, int], equivariance_size: tuple[int, int]
) -> Callable[..., dict[str, Augmentation]]:
    """Rows of uniforms of both kinds of views -> their augmentations, for images of these heights and widths."""

    @on_host
    def draw(invariance: jax.Array, equivariance: jax.Array) -> dict[str, Augmentation]:
        (height, width), (other_height, other_width) = size, equivariance_size
        return {
            "invariance": augment.sample(invariance, image_spec(plan.invariance), height=height, width=width),
            "equivariance": augment.sample(
                equivariance, image_spec(plan.equivariance), height=other_height, width=other_width
            ),
        }

    return draw


def sample_boxes(uniforms: np.ndarray, spec: AugmentSpec, sizes: Sequence[tuple[int, int]]) -> list[list[Box]]:
    """The boxes that rows of uniforms [n, v, K] draw from n images of these heights and widths, v an image."""
    count = len(uniforms)
    if count > IMAGES_A_CALL:
        return sample_boxes(uniforms[:IMAGES_A_CALL], spec, sizes[:IMAGES_A_CALL]) + sample_boxes(
            uniforms[IMAGES_A_CALL:], spec, sizes[IMAGES_A_CALL:]
        )
    # Always of one shape: compiled once, and no box depends on how many others are drawn beside it.
    rows = np.zeros((IMAGES_A_CALL, *uniforms.shape[1:]), np.float32)
    rows[:count] = uniforms
    extents = np.ones((2, IMAGES_A_CALL, 1), np.int32)
    extents[:, :count, 0] = np.transpose(sizes)
    drawn = _box_function(spec)(rows, *extents)[:count].tolist()
    return [[(top, left, height, width) for top, left, height, width in views] for views in drawn]


@functools.cache
def _box_function(spec: AugmentSpec) -> Callable[..., np.ndarray]:
    @on_host
    def draw(uniforms: jax.Array, height: jax.Array, width: jax.Array) -> jax.Array:
        return jnp.stack(augment.sample_box(uniforms, spec, height=height, width=width), axis=-1).astype(jnp.int32)

    return draw


@functools.cache
def _host_device() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names an accelerator alone
        return jax.local_devices()[0]
