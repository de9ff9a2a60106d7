"""From a batch to the views of a step: the draws are a function of (seed, step), whatever the placement."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from care_jax import augment, data
from care_jax.augment import AugmentSpec, ViewUniforms

PLACEMENTS = ("device", "host", "split")

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


def _augmented(uniforms: jax.Array, images: jax.Array, spec: AugmentSpec) -> jax.Array:
    drawn = augment.sample(uniforms, spec, height=images.shape[-3], width=images.shape[-2])
    return augment.apply(drawn, images, spec)


def from_images(plan: ViewPlan, images: jax.Array, step: jax.Array) -> Views:
    """All views of images [b, h, w, 3] in [0, 1]: independent [2, b, s, s, 3] and shared [2, e, s, s, 3] (or None)."""
    uniforms = plan.uniforms(step)
    views = jnp.stack(
        [
            _augmented(uniforms.first, images, plan.invariance),
            _augmented(uniforms.second, images, plan.invariance),
        ]
    )
    if not plan.equivariance_batch_size:
        return views, None
    images = images[: plan.equivariance_batch_size]
    shared = jnp.stack(
        [
            _augmented(uniforms.shared_first, images, plan.equivariance),
            _augmented(uniforms.shared_second, images, plan.equivariance),
        ]
    )
    return views, shared


def _device_views(plan: ViewPlan, batch: Batch, step: jax.Array) -> Views:
    return from_images(plan, data.take(batch["images"], batch["indices"]), step)


def _host_views(plan: ViewPlan, batch: Batch, step: jax.Array) -> Views:
    del step  # used by the host, when it made these views
    return batch["views"], batch.get("shared_views")


def _split_views(plan: ViewPlan, batch: Batch, step: jax.Array) -> Views:
    """The host has cropped; the rest of the same drawn augmentations happens here."""
    uniforms = plan.uniforms(step)
    crops = _unit_range(batch["crops"])
    size = crops.shape[-2]
    views = []
    for rows, images in zip((uniforms.first, uniforms.second), crops, strict=True):
        # The box was used on the host, on images of any size; colours do not depend on it.
        drawn = augment.sample(rows, plan.invariance, height=size, width=size)
        views.append(augment.apply_after_crop(drawn, images, plan.invariance))
    if not plan.equivariance_batch_size:
        return jnp.stack(views), None
    centers = _unit_range(batch["centers"])
    shared = [_augmented(rows, centers, plan.equivariance) for rows in (uniforms.shared_first, uniforms.shared_second)]
    return jnp.stack(views), jnp.stack(shared)


def _unit_range(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images


VIEWS: dict[str, Callable[[ViewPlan, Batch, jax.Array], Views]] = {
    "device": _device_views,
    "host": _host_views,
    "split": _split_views,
}
