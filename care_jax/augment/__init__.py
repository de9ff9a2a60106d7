"""Draw, then apply: an augmentation is a value.

    uniforms in [0, 1) --sample--> Augmentation --apply--> views

One row an image makes SimCLR's views; one row a group, shared by its images, makes CARE's; one row for a whole test set
measures equivariance; two in turn make a composition. The same code runs on the device (JAX) and in `tf.data`.

>>> import jax
>>> spec = AugmentSpec(size=4, flip_probability=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
>>> @jax.jit
... def views(uniforms, images):
...     augmentation = sample(uniforms, spec, height=8, width=8)  # one for each of two groups,
...     return apply(share(augmentation, 3), images, spec)  # shared by the group's three images
>>> views(draw_uniforms(jax.random.key(0), (2,), spec), jax.numpy.ones((6, 8, 8, 3))).shape
(6, 4, 4, 3)
"""

from care_jax.augment import color, geometry
from care_jax.augment.apply import apply, apply_after_crop, crop, share, unit_range
from care_jax.augment.augmentation import Augmentation, AugmentSpec, box_fractions
from care_jax.augment.clouds import CloudAugmentation, CloudSpec, apply_cloud, cloud_identity, sample_cloud
from care_jax.augment.inputs import Drawn, Spec, augmented, image_spec, input_shape
from care_jax.augment.namespace import namespace, to_float
from care_jax.augment.operations import OPERATIONS, Operation
from care_jax.augment.sample import NUM_UNIFORMS, draw_uniforms, identity, sample, sample_box, sample_given_box
from care_jax.augment.views import ViewPlan, ViewUniforms

__all__ = [
    "NUM_UNIFORMS",
    "OPERATIONS",
    "AugmentSpec",
    "Augmentation",
    "CloudAugmentation",
    "CloudSpec",
    "Drawn",
    "Operation",
    "Spec",
    "ViewPlan",
    "ViewUniforms",
    "apply",
    "apply_after_crop",
    "apply_cloud",
    "augmented",
    "box_fractions",
    "cloud_identity",
    "color",
    "crop",
    "draw_uniforms",
    "geometry",
    "identity",
    "image_spec",
    "input_shape",
    "namespace",
    "sample",
    "sample_box",
    "sample_cloud",
    "sample_given_box",
    "share",
    "to_float",
    "unit_range",
]
