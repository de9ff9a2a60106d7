"""From a batch to the views of a step: the draws are a function of (seed, step), whatever the placement."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from care_jax import augment, data
from care_jax.augment import AugmentSpec, ViewPlan, ViewUniforms, augmented, input_shape
from care_jax.methods import Views

Batch = Mapping[str, Any]  # arrays, and what holds them


def example(plan: ViewPlan) -> Views:
    """Views of two inputs, all zeros: their shapes are what the networks' parameters depend on."""
    views = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), _example_shapes(plan))
    height, width, *_ = input_shape(plan.invariance)
    return views._replace(image_size=(height, width))


@functools.lru_cache(maxsize=8)
def _example_shapes(plan: ViewPlan) -> Views:
    # Traced, not computed: XLA would compile the whole augmentation, only to find that no parameter depends on it.
    images = jax.ShapeDtypeStruct((2, *input_shape(plan.invariance)), jnp.float32)
    few = 2 if plan.equivariance_batch_size else 0
    of_two = plan._replace(batch_size=2, equivariance_batch_size=few, num_groups=1)
    return jax.eval_shape(lambda images, step: from_images(plan, images, of_two.uniforms(step)), images, jnp.int32(0))


# Of each array of a batch, the axis of its images; the resident images belong to no step.
BATCH_AXES = {
    "indices": 0,
    "invariance_views": 1,
    "equivariance_views": 1,
    "canvases": 0,
    "boxes": 1,
    "equivariance_images": 0,
    "labels": 0,
}


def part(batch: Batch, uniforms: ViewUniforms, index: jax.Array, count: int) -> tuple[Batch, ViewUniforms]:
    """One of `count` equal parts of a batch and of its draws: rows index, index + count, index + 2 count, ...

    Strided, because where devices share the batch each of them then has its share of every part.
    """

    def rows(x: jax.Array, axis: int) -> jax.Array:
        shape = (*x.shape[:axis], x.shape[axis] // count, count, *x.shape[axis + 1 :])
        return jax.lax.dynamic_index_in_dim(x.reshape(shape), index, axis + 1, keepdims=False)

    batch = {name: rows(x, BATCH_AXES[name]) if name in BATCH_AXES else x for name, x in batch.items()}
    return batch, ViewUniforms(
        invariance=rows(uniforms.invariance, 1),
        equivariance=rows(uniforms.equivariance, 1),
        third=rows(uniforms.third, 0),
    )


def from_images(plan: ViewPlan, images: jax.Array, uniforms: ViewUniforms) -> Views:
    """All views that the plan asks for, of images [b, h, w, 3] in [0, 1] or of clouds [b, n, 4]."""
    height, width = images.shape[1:3]
    drawn, invariance = zip(*(augmented(rows, images, plan.invariance) for rows in uniforms.invariance), strict=True)
    views = Views(
        invariance=jnp.stack(invariance),
        equivariance=_equivariance_views(plan, images, uniforms),
        image_size=(height, width),
    )
    if "drawn" in plan.needs:
        views = views._replace(drawn=jax.tree.map(lambda *rows: jnp.stack(rows), *drawn))
    if "plain" in plan.needs:
        _, plain = augmented(None, images, plan.plain())
        views = views._replace(plain=plain[None])
    if "rotated" in plan.needs:
        _, small = augmented(uniforms.third, images, plan.rotated())
        turned = jnp.stack([jnp.rot90(small, k, axes=(1, 2)) for k in range(4)], axis=1)
        views = views._replace(rotated=turned.reshape(1, -1, *small.shape[1:]))
    return views


def _on_device(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    return from_images(plan, data.take(batch["images"], batch["indices"]), uniforms)


def _on_host(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    del plan, uniforms  # used by the host, when it made these views
    return Views(invariance=batch["invariance_views"], equivariance=batch.get("equivariance_views"))


def _decoded(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    """The host has decoded images of any size onto canvases, and drawn the boxes that are cut out here."""
    views = []
    assert isinstance(plan.invariance, AugmentSpec), "clouds are on the device"
    for rows, boxes in zip(uniforms.invariance, batch["boxes"], strict=True):
        top, left, height, width = (boxes[..., i] for i in range(4))
        drawn = augment.sample_given_box(rows, plan.invariance, (top, left, height, width))
        views.append(augment.apply(drawn, batch["canvases"], plan.invariance))
    equivariance = _equivariance_views(plan, batch.get("equivariance_images"), uniforms)
    return Views(invariance=jnp.stack(views), equivariance=equivariance)


def _equivariance_views(plan: ViewPlan, images: jax.Array | None, uniforms: ViewUniforms) -> jax.Array | None:
    """Of the first images, all of one size: [2, e, s, s, 3]."""
    if not plan.equivariance_batch_size or images is None:
        return None
    images = images[: uniforms.equivariance.shape[1]]
    pairs = (augmented(rows, images, plan.equivariance) for rows in uniforms.equivariance)
    return jnp.stack([views for _, views in pairs])


# `augment.placement` -> how a batch and its draws become the views of a step.
PLACEMENTS: dict[str, Callable[[ViewPlan, Batch, ViewUniforms], Views]] = {
    "device": _on_device,
    "host": _on_host,
    "decode": _decoded,
}
