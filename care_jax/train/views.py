"""From a batch to the views of a step: the draws are a function of (seed, step), whatever the placement."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from care_jax import augment, data
from care_jax.augment import Augmentation, AugmentSpec, ViewUniforms
from care_jax.methods import Views

PLACEMENTS = ("device", "host", "split", "decode")

Batch = Mapping[str, jax.Array]


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
      needs: further fields of `methods.Views` to fill: "plain", "rotated", "drawn".
    """

    invariance: AugmentSpec
    equivariance: AugmentSpec
    seed: int
    batch_size: int
    equivariance_batch_size: int
    num_groups: int
    draws: str
    needs: tuple[str, ...] = ()

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

    def plain(self) -> AugmentSpec:
        """Ranges of the view for which nothing is drawn."""
        return AugmentSpec(size=self.invariance.size, crop="center", mean=self.invariance.mean, std=self.invariance.std)

    def rotated(self) -> AugmentSpec:
        """Ranges of the third view: the others' at half the side, so that its four turns cost what one view does."""
        return dataclasses.replace(self.invariance, size=self.invariance.size // 2)


def example(plan: ViewPlan) -> Views:
    """Views of two images, all zeros: their shapes are what the networks' parameters depend on."""
    size = plan.invariance.size
    views = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), _example_shapes(plan))
    return views._replace(image_size=(size, size))


@functools.lru_cache(maxsize=8)
def _example_shapes(plan: ViewPlan) -> Views:
    # Traced, not computed: XLA would compile the whole augmentation, only to find that no parameter depends on it.
    images = jax.ShapeDtypeStruct((2, plan.invariance.size, plan.invariance.size, 3), jnp.float32)
    few = 2 if plan.equivariance_batch_size else 0
    of_two = plan._replace(batch_size=2, equivariance_batch_size=few, num_groups=1)
    return jax.eval_shape(lambda images, step: from_images(plan, images, of_two.uniforms(step)), images, jnp.int32(0))


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


def _augmented(uniforms: jax.Array, images: jax.Array, spec: AugmentSpec) -> tuple[Augmentation, jax.Array]:
    drawn = augment.sample(uniforms, spec, height=images.shape[-3], width=images.shape[-2])
    return drawn, augment.apply(drawn, images, spec)


def from_images(plan: ViewPlan, images: jax.Array, uniforms: ViewUniforms) -> Views:
    """All views of images [b, h, w, 3] in [0, 1] that the plan asks for."""
    height, width = images.shape[1:3]
    drawn, own = zip(
        *(_augmented(rows, images, plan.invariance) for rows in (uniforms.first, uniforms.second)), strict=True
    )
    views = Views(own=jnp.stack(own), shared=_shared_views(plan, images, uniforms), image_size=(height, width))
    if "drawn" in plan.needs:
        views = views._replace(drawn=jax.tree.map(lambda *rows: jnp.stack(rows), *drawn))
    if "plain" in plan.needs:
        spec = plan.plain()
        plain = augment.apply(augment.identity(spec, height=height, width=width), images, spec)
        views = views._replace(plain=plain[None])
    if "rotated" in plan.needs:
        _, small = _augmented(uniforms.third, images, plan.rotated())
        turned = jnp.stack([jnp.rot90(small, k, axes=(1, 2)) for k in range(4)], axis=1)
        views = views._replace(rotated=turned.reshape(1, -1, *small.shape[1:]))
    return views


def _device_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    return from_images(plan, data.take(batch["images"], batch["indices"]), uniforms)


def _host_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    del plan, uniforms  # used by the host, when it made these views
    return Views(own=batch["views"], shared=batch.get("shared_views"))


def _split_views(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> Views:
    """The host has cropped; the rest of the same drawn augmentations happens here."""
    crops = _unit_range(batch["crops"])
    size = crops.shape[-2]
    views = []
    for rows, images in zip((uniforms.first, uniforms.second), crops, strict=True):
        # The box was used on the host, on images of any size; colours do not depend on it.
        drawn = augment.sample(rows, plan.invariance, height=size, width=size)
        views.append(augment.apply_after_crop(drawn, images, plan.invariance))
    return Views(own=jnp.stack(views), shared=_shared_centers(plan, batch, uniforms))


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
    return Views(own=jnp.stack(views), shared=_shared_centers(plan, batch, uniforms))


def _shared_centers(plan: ViewPlan, batch: Batch, uniforms: ViewUniforms) -> jax.Array | None:
    """Of the whole images that the host has brought to one size."""
    return _shared_views(plan, _unit_range(batch["centers"]), uniforms) if plan.equivariance_batch_size else None


def _shared_views(plan: ViewPlan, images: jax.Array, uniforms: ViewUniforms) -> jax.Array | None:
    """Of the first images: [2, e, s, s, 3]."""
    if not plan.equivariance_batch_size:
        return None
    images = images[: len(uniforms.shared_first)]
    pairs = (_augmented(rows, images, plan.equivariance) for rows in (uniforms.shared_first, uniforms.shared_second))
    return jnp.stack([views for _, views in pairs])


def _unit_range(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images


# How a batch and its draws become the views of a step.
VIEWS: dict[str, Callable[[ViewPlan, Batch, ViewUniforms], Views]] = {
    "device": _device_views,
    "host": _host_views,
    "split": _split_views,
    "decode": _decode_views,
}
