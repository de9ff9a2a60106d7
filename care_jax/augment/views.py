"""Which views a step takes of its images, and the uniforms behind them: a function of (seed, step) alone.

A step has two kinds of views. Of the invariance views each image draws its own augmentation, as contrastive learning
does; an equivariance view's augmentation is shared by a group of images, as CARE's term needs.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from care_jax.augment.augmentation import AugmentSpec
from care_jax.augment.clouds import CloudSpec
from care_jax.augment.inputs import Spec
from care_jax.augment.sample import draw_uniforms

DRAWS = ("group", "batch")
_STREAM = int.from_bytes(b"view", "big")  # keeps these bits apart from others drawn from the same seed and step


class ViewUniforms(NamedTuple):
    """Rows for `augmented`, float32 in [0, 1); K is that of the branch's ranges."""

    invariance: jax.Array  # [2, b, K] one row an image and view
    equivariance: jax.Array  # [2, e, K] row i is the draw of image i's group
    third: jax.Array  # [b, K] one row an image, for a term that takes a third view


class ViewPlan(NamedTuple):
    """Which views a step takes of its images.

    Attributes:
      invariance: ranges of the two draws an image, for the contrastive loss.
      equivariance: ranges of the two draws a group, for the equivariance loss.
      seed: of the run.
      batch_size: b, images a step.
      equivariance_batch_size: e, the first images of the batch, of which equivariance views are made; 0 for none.
      num_groups: g; image i of the e belongs to group i // (e / g).
      draws: "group", one pair of augmentations a group (the paper's Algorithm 1), or "batch", one pair for all groups
        (what the official code does: its nested vmap repeats the draw).
      needs: further fields of `methods.Views` to fill: "plain", "rotated", "drawn".

    >>> spec = AugmentSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    >>> plan = ViewPlan(spec, spec, seed=0, batch_size=4, equivariance_batch_size=4, num_groups=2)
    >>> first, _ = plan.uniforms(7).equivariance
    >>> [bool((row == first[0]).all()) for row in first]
    [True, True, False, False]
    """

    invariance: Spec
    equivariance: Spec
    seed: int
    batch_size: int
    equivariance_batch_size: int
    num_groups: int
    draws: str = "group"
    needs: tuple[str, ...] = ()

    def uniforms(self, step: int | jax.Array) -> ViewUniforms:
        """The numbers behind all views of a step: a resumed run draws what it would have drawn.

        Args:
          step: scalar; may be traced.

        Raises:
          ValueError: `draws` is unknown, or the groups don't divide the images.
        """
        images, groups = self.equivariance_batch_size, self.num_groups
        if self.draws not in DRAWS:
            raise ValueError(f"draws must be one of {DRAWS}; got {self.draws!r}")
        if groups < 1 or images % groups:
            raise ValueError(f"num_groups must divide equivariance_batch_size; got {groups} and {images}")
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), step), _STREAM)
        first, second, shared_first, shared_second = jax.random.split(key, 4)
        third = jax.random.fold_in(key, 4)  # so that it does not change the four before it
        num_draws = groups if self.draws == "group" else 1

        def own(key: jax.Array) -> jax.Array:
            return draw_uniforms(key, (self.batch_size,), self.invariance)

        def shared(key: jax.Array) -> jax.Array:
            return jnp.repeat(draw_uniforms(key, (num_draws,), self.equivariance), images // num_draws, axis=0)

        return ViewUniforms(
            invariance=jnp.stack([own(first), own(second)]),
            equivariance=jnp.stack([shared(shared_first), shared(shared_second)]),
            third=own(third),
        )

    def plain(self) -> Spec:
        """Ranges of the view for which nothing is drawn."""
        if isinstance(self.invariance, CloudSpec):
            return CloudSpec()
        return AugmentSpec(size=self.invariance.size, crop="center", mean=self.invariance.mean, std=self.invariance.std)

    def rotated(self) -> AugmentSpec:
        """Ranges of the third view: the others' at half the side, so that its four turns cost what one view does."""
        assert isinstance(self.invariance, AugmentSpec), "only images have a third view"
        return dataclasses.replace(self.invariance, size=self.invariance.size // 2)
