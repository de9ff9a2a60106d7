"""Draw, then apply: an augmentation is a value.

    uniforms in [0, 1) --sample--> Augmentation --apply--> views

One row an image makes SimCLR's views; one row a group, shared by its images, makes CARE's; one row for a whole test set
measures equivariance; two in turn make a composition. The same code runs on the device (JAX) and in `tf.data`.
"""

from care_jax.augment import color, geometry
from care_jax.augment.apply import apply, apply_after_crop, crop, share
from care_jax.augment.params import Augmentation, AugmentSpec
from care_jax.augment.sample import NUM_UNIFORMS, identity, sample
from care_jax.augment.views import ViewUniforms, draw_view_uniforms

__all__ = [
    "NUM_UNIFORMS",
    "AugmentSpec",
    "Augmentation",
    "ViewUniforms",
    "apply",
    "apply_after_crop",
    "color",
    "crop",
    "draw_view_uniforms",
    "geometry",
    "identity",
    "sample",
    "share",
]
