"""Draw and apply, whatever the inputs are: images, of an `AugmentSpec`, or clouds of points, of a `CloudSpec`."""

from typing import TypeAlias

import jax

from care_jax.augment.apply import apply
from care_jax.augment.augmentation import Augmentation, AugmentSpec
from care_jax.augment.checks import check_shape
from care_jax.augment.clouds import CloudAugmentation, CloudSpec, apply_cloud, cloud_identity, sample_cloud
from care_jax.augment.sample import identity, sample

Spec: TypeAlias = AugmentSpec | CloudSpec
Drawn: TypeAlias = Augmentation | CloudAugmentation


def augmented(uniforms: jax.Array | None, inputs: jax.Array, spec: Spec) -> tuple[Drawn, jax.Array]:
    """What rows of uniforms draw for inputs, and the views that it makes.

    Args:
      uniforms: [b, K], a row an input, or [K], shared by all; K is that of `draw_uniforms`. None: nothing is drawn, and
        the view is that of an evaluation.
      inputs: images [b, h, w, 3], or clouds [b, n, 4].
      spec: of the same kind; the ranges.

    Returns:
      The augmentation, of leading shape [b] or (); views [b, s, s, 3] or [b, n, 4].

    Raises:
      ValueError: the inputs are not what the ranges are of; there is neither one row an input nor one for all.
    """
    if isinstance(spec, CloudSpec):
        of_clouds = cloud_identity() if uniforms is None else sample_cloud(uniforms, spec)
        return of_clouds, apply_cloud(of_clouds, inputs, spec)
    check_shape(inputs)
    height, width = inputs.shape[-3:-1]
    drawn = (
        identity(spec, height=height, width=width)
        if uniforms is None
        else sample(uniforms, spec, height=height, width=width)
    )
    return drawn, apply(drawn, inputs, spec)


def image_spec(spec: Spec) -> AugmentSpec:
    """The ranges of images, for what only they go through.

    Raises:
      TypeError: they are of clouds.
    """
    if isinstance(spec, CloudSpec):
        raise TypeError("these are the ranges of clouds of points, and an AugmentSpec is needed")
    return spec


def input_shape(spec: Spec) -> tuple[int, ...]:
    """Of one view, for networks whose parameters its size does not change: [s, s, 3], or two points [2, 4]."""
    return (2, 4) if isinstance(spec, CloudSpec) else (spec.size, spec.size, 3)
