"""From a batch to the views of a step: the draws are a function of (seed, step), whatever the placement."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from care_jax import augment, data
from care_jax.augment import AugmentSpec, ViewUniforms

PLACEMENTS = ("device", "host", "split", "decode")

Batch = Mapping[str, jax.Array]
Views = tuple[jax.Array, jax.Array | None]


class ViewPlan(NamedTuple):
    """Which views a step takes of its images.

    Attributes:
      invariance: ranges of the two draws an image, for the contrastive loss.
      equivariance: ranges of the two draws a group, for the equivariance loss.
      seed: of the run.
      batch_size: b, images a step.
      equivariance_batch_size: e, the first images of the batch, of which shared views are made; 0 for none.
      num_groups: g, groups that the e images are cut into.
      draws: "group", a pair of draws each; "batch", one pair for all.
    """

    invariance: AugmentSpec
    equivariance: AugmentSpec
    seed: int
    batch_size: int
    equivariance_batch_size: int
    num_groups: int
    draws: str

    def uniforms(self, step: jax.Array) -> ViewUniforms:
        """The numbers in [0, 1) behind the views of a step."""
        return augment.draw_view_uniforms(
            self.seed,
            step,
            batch_size=self.batch_size,
            equivariance_batch_size=self.equivariance_batch_size,
            num_groups=self.num_groups,
            draws=self.draws,
        )


# Of each array of a batch, the axis of its images; the resident images belong to no step.
BATCH_AXES = {"indices": 0, "views": 1, "shared_views": 1, "crops": 1, "canvases": 0, "boxes": 1, "centers": 0}


def part(batch: Batch, uniforms: ViewUniforms, index: jax.Array, count: int) -> tuple[Batch, ViewUniforms]:
    """One of `count` equal parts of a batch and of its draws: rows index, index + count, index + 2 count, ...

    Strided, because where devices share the batch each of them then has its share of every part.
    """

    def rows(x: jax.Array, axis: int) -> jax.Array:
        shape = (*x.shape[:axis], x.shape[axis] // count, count, *x.shape[axis + 1 :])
        return jax.lax.dynamic_index_in_dim(x.reshape(shape), index, axis + 1, keepdims=False)

    batch = {name: rows(x, BATCH_AXES[name]) if name in BATCH_AXES else x for name, x in batch.items()}
    return batch, jax.tree.map(lambda x: rows(x, 0), uniforms)


def _augmented(uniforms: jax.Array, images: jax.Array, spec: AugmentSpec) -> jax.Array:
    drawn = augment.sample(uniforms, spec, height=images.shape[-3], width=images.shape[-2])
    return augment.apply(drawn, images, spec)


def from_images(plan: ViewPlan, images: jax.Array, uniforms: ViewUniforms) -> Views:
    """All views of images [b, h, w, 3] in [0, 1]: independent [2, b, s, s, 3] and shared [2, e, s, s, 3] (or None)."""
    views = [_augmented(rows, images, plan.invariance) for rows in (uniforms.first, uniforms.second)]
    if not plan.equivariance_batch_size:
        return jnp.stack(views), None
    images = images[: len(uniforms.shared_first)]
    shared = [_augmented(rows, images, plan.equivariance) for rows in (uniforms.shared_first, uniforms.shared_second)]
    return jnp.stack(views), jnp.stack(shared)


def _device_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    return from_images(plan, data.take(batch["images"], batch["indices"]), uniforms)


def _host_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    del plan, uniforms  # used by the host, when it made these views
    return batch["views"], batch.get("shared_views")


def _split_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    """The host has cropped; the rest of the same drawn augmentations happens here."""
    crops = _unit_range(batch["crops"])
    size = crops.shape[-2]
    views = []
    for rows, images in zip((uniforms.first, uniforms.second), crops, strict=True):
        # The box was used on the host, on images of any size; colours do not depend on it.
        drawn = augment.sample(rows, plan.invariance, height=size, width=size)
        views.append(augment.apply_after_crop(drawn, images, plan.invariance))
    return jnp.stack(views), _shared_views(plan, batch, uniforms)


def _decode_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    """The host has decoded images of any size onto canvases, and drawn the boxes that are cut out here."""
    canvases = batch["canvases"]
    views = []
    for rows, boxes in zip((uniforms.first, uniforms.second), batch["boxes"], strict=True):
        top, left, height, width = (boxes[..., i] for i in range(4))
        # Nothing but the box depends on the image's size.
        drawn = augment.sample(rows, plan.invariance, height=canvases.shape[-3], width=canvases.shape[-2])
        drawn = drawn._replace(top=top, left=left, height=height, width=width)
        views.append(augment.apply(drawn, canvases, plan.invariance))
    return jnp.stack(views), _shared_views(plan, batch, uniforms)


def _shared_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> jax.Array | None:
    """Of the whole images that the host has brought to one size: [2, e, s, s, 3]."""
    if not plan.equivariance_batch_size:
        return None
    centers = _unit_range(batch["centers"])
    shared = [_augmented(rows, centers, plan.equivariance) for rows in (uniforms.shared_first, uniforms.shared_second)]
    return jnp.stack(shared)


def _unit_range(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images


# How a batch and its draws become the views of a step.
VIEWS: dict[str, Callable[[ViewPlan, Batch, ViewUniforms], Views]] = {
    "device": _device_views,
    "host": _host_views,
    "split": _split_views,
    "decode": _decode_views,
}
