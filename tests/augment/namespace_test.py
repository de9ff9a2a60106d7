"""The namespace follows the arrays, and TensorFlow is never imported for JAX's sake."""

import importlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import augment

# `augment.namespace` is the function.
ns = importlib.import_module("care_jax.augment.namespace")


def test_numpy_arrays_numbers_and_jax_arrays_compute_in_jax():
    assert ns.namespace(np.zeros(3), 1.0, jnp.zeros(3)) is jnp
    assert ns.namespace() is jnp
    assert (augment.namespace, augment.to_float) == (ns.namespace, ns.to_float)


def test_one_tensorflow_tensor_is_enough_for_tensorflow():
    import tensorflow as tf
    import tensorflow.experimental.numpy as tnp

    assert ns.namespace(jnp.zeros(3), tf.zeros(3)) is tnp
    assert ns.namespace(tf.Variable(1.0)) is tnp
    seen = []
    tf.function(lambda x: seen.append(ns.namespace(x)) or x)(tf.zeros(3))
    assert seen == [tnp]


@pytest.mark.slow
def test_augmenting_in_jax_imports_no_tensorflow():
    program = """
import sys
import jax
import numpy as np
from care_jax import augment
spec = augment.AugmentSpec(size=4, flip_probability=0.5, jitter_probability=0.8, brightness=0.4, hue=0.1,
                           blur_probability=0.5, rotation_degrees=10.0, mean=(0.5,) * 3, std=(0.2,) * 3)
def augmented(uniforms, images):
    return augment.apply(augment.sample(uniforms, spec, height=6, width=6), images, spec)
made = jax.eval_shape(augmented, np.full((2, augment.NUM_UNIFORMS), 0.3), np.full((2, 6, 6, 3), 0.5))
assert made.shape == (2, 4, 4, 3)
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["jax", "tensorflow"])
def tensor(request):
    """Makes a tensor of either kind."""
    if request.param == "jax":
        return jnp.asarray
    import tensorflow as tf

    return tf.constant


def test_helpers_keep_float32_in_both(tensor):
    x = tensor(np.array([-0.5, 0.5, 1.5, 2.5], np.float32))
    xp = ns.namespace(x)
    for result, expected in [
        (ns.to_float(xp, x), [-0.5, 0.5, 1.5, 2.5]),
        (ns.to_float(xp, 0.25), 0.25),
        (ns.to_float(xp, x > 0), [0, 1, 1, 1]),
        (ns.to_float(xp, jnp.arange(3)), [0, 1, 2]),
        (ns.clip(xp, x, 0.0, 2.0), [0, 0.5, 1.5, 2.0]),
        (ns.round_half_to_even(xp, x), [0, 0, 2, 2]),
        (ns.positions(xp, 3), [0, 1, 2]),
    ]:
        assert np.asarray(result).dtype == np.float32
        np.testing.assert_array_equal(result, np.float32(expected))


def test_gather_takes_rows_of_each_table_or_of_every_table_alike(tensor):
    table = np.arange(2 * 3 * 5 * 4, dtype=np.float32).reshape(2, 3, 5, 4)
    own = np.random.default_rng(0).integers(0, 5, (2, 3, 7)).astype(np.int32)
    x = tensor(table)
    xp = ns.namespace(x)
    np.testing.assert_array_equal(ns.gather(xp, x, tensor(own)), np.take_along_axis(table, own[..., None], axis=2))
    np.testing.assert_array_equal(ns.gather(xp, x, tensor(own[0, 0])), table[:, :, own[0, 0]])


def test_length_is_a_tensor_only_where_the_size_is_unknown():
    import tensorflow as tf

    lengths = []

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
    def f(x):
        lengths.extend([ns.length(x, 0), ns.length(x, 1)])
        return ns.positions(ns.namespace(x), lengths[0])

    np.testing.assert_array_equal(f(tf.zeros([3, 4])), np.arange(3, dtype=np.float32))
    assert ns.is_tensorflow(lengths[0])
    assert lengths[1] == 4
    assert ns.length(np.zeros((3, 4)), 0) == 3
