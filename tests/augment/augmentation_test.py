"""A spec is hashable and refuses, by name, every value it cannot mean."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.augment import AugmentSpec, identity

PLAIN = {"size": 8, "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


def test_lists_from_a_config_become_tuples_so_that_equal_specs_hash_alike():
    tuples = AugmentSpec(**PLAIN)
    lists = AugmentSpec(size=8, mean=[0.5] * 3, std=[0.2] * 3, crop_scale=[0.08, 1.0], blur_sigma=[0.1, 2.0])
    assert lists == tuples
    assert hash(lists) == hash(tuples)


def test_arrays_and_integers_of_numpy_are_tuples_and_integers():
    arrays = AugmentSpec(size=np.int64(8), mean=np.full(3, 0.5), std=jnp.full(3, 0.25), blur_kernel_size=np.int32(3))
    plain = AugmentSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert arrays == plain and hash(arrays) == hash(plain) and repr(arrays) == repr(plain)


def test_a_spec_is_a_static_argument():
    f = jax.jit(lambda x, spec: x * spec.size, static_argnums=1)
    assert f(2, AugmentSpec(**PLAIN)) == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("size", 8.0),
        ("mean", np.zeros((3, 1))),
        ("crop", "random"),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.5, 0.2)),
        ("crop_scale", (0.5, 1.1)),
        ("crop_scale", 0.5),
        ("crop_scale", (0.2, 0.5, 1.0)),
        ("crop_ratio", (0.0, 1.0)),
        ("crop_ratio", (2.0, 1.0)),
        ("crop_ratio", (1.0, math.inf)),
        ("center_fraction", 0.0),
        ("center_fraction", 1.1),
        ("flip_probability", -0.1),
        ("flip_probability", 1.1),
        ("flip_probability", math.nan),
        ("jitter_probability", 2),
        ("grayscale_probability", -1),
        ("blur_probability", 1.5),
        ("solarize_probability", 1.5),
        ("solarize_threshold", 128),
        ("brightness", -0.4),
        ("contrast", -0.4),
        ("saturation", math.inf),
        ("hue", 0.6),
        ("hue", -0.1),
        ("blur_kernel_size", 4),
        ("blur_kernel_size", -3),
        ("blur_kernel_size", 3.0),
        ("blur_sigma", (0.0, 2.0)),
        ("blur_sigma", (2.0, 0.1)),
        ("rotation_degrees", -10),
        ("rotation_degrees", 181),
        ("translation", 1.5),
        ("mean", (0.5, 0.5)),
        ("mean", 0.5),
        ("mean", (0.5, 0.5, math.nan)),
        ("std", (0.2, 0.2, 0.0)),
        ("std", (0.2, 0.2, 0.2, 0.2)),
    ],
)
def test_a_bad_field_is_named_with_its_value(field: str, value: object):
    with pytest.raises(ValueError, match=rf"AugmentSpec\.{field} must be .*; got ") as error:
        AugmentSpec(**(PLAIN | {field: value}))
    assert repr(value) in str(error.value)


def test_a_kernel_may_reach_one_reflection_and_no_further():
    AugmentSpec(**PLAIN, blur_probability=0.5, blur_kernel_size=15)
    AugmentSpec(**PLAIN, blur_kernel_size=17)  # never used
    with pytest.raises(ValueError, match="blur_kernel_size"):
        AugmentSpec(**PLAIN, blur_probability=0.5, blur_kernel_size=17)


def test_an_augmentation_is_a_pytree():
    augmentation = identity(AugmentSpec(**PLAIN), height=8, width=8, leading_shape=(5,))
    assert jax.tree.map(lambda x: x[0], augmentation).order.shape == (4,)
