"""Rows of length one, whatever their scale; checked pairs in one type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import losses, models
from care_jax.losses.arrays import as_pair, as_temperature, normalize, promote


def test_normalize_equals_torch_and_is_safe_at_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0], [-1e15, 0.0], [3e20, 4e20]])
    np.testing.assert_allclose(normalize(x), [[0.6, 0.8], [0, 0], [1e-8, 0], [-1, 0], [0.6, 0.8]], rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(normalize(x) * jnp.array([1.0, 2.0])))(x)
    # On the sphere the gradient is tangent: (I - z z^T) c / |x|. Without a direction there is none.
    z, c = np.array([0.6, 0.8]), np.array([1.0, 2.0])
    tangent = c - z * (z @ c)
    np.testing.assert_allclose(gradient, [tangent / 5, [0, 0], [0, 0], [0, 2e-15], tangent / 5e20], rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_normalize_keeps_its_promises_in_half_precision(dtype):
    """Squares of 1e-4, 300 and 6e4 don't exist in float16; nor does the inverse of its smallest number."""
    x = jnp.array([[1e-4, 0], [300, -400], [0, 0], [6e4, 6e4], [6e-8, 0], [1, np.nan]], dtype)
    half = normalize(x)
    assert half.dtype == dtype
    np.testing.assert_allclose(np.float32(half[:5]), normalize(x[:5].astype(jnp.float32)), rtol=4e-3)
    np.testing.assert_allclose(np.float32(half[:5]), [[1, 0], [0.6, -0.8], [0, 0], [0.5**0.5] * 2, [1, 0]], rtol=8e-3)
    gradient = np.float32(jax.grad(lambda x: jnp.sum(normalize(x) * jnp.array([1, 2], dtype)))(x))
    assert np.isfinite(gradient[:5]).all() and not gradient[2].any()
    np.testing.assert_allclose(gradient[0], [0, 2e4], rtol=1e-2, atol=0.1)  # processors differ in its last bits
    assert np.isnan(np.float32(half[5])).all() and np.isnan(gradient[5]).all()


def test_normalize_refuses_what_it_cannot_promise():
    for x, epsilon in ((jnp.ones((2, 2), int), 1e-12), (jnp.ones((2, 2)), 1e-30), (jnp.ones((2, 2)), -1.0)):
        with pytest.raises(ValueError, match=f"floating, epsilon 0 or at least 1e-18; got {x.dtype} and {epsilon}"):
            normalize(x, epsilon)


def test_with_an_epsilon_of_zero_every_row_has_its_direction():
    scales = np.float32([1e-35, 1e-25, 1e-9, 1.0, 1e10, 1e25, 1e35, 0.0])[:, None]
    rows = jnp.asarray(scales * np.float32([3.0, 4.0]))

    (_, unit), gradient = jax.jit(jax.value_and_grad(_weighted, has_aux=True))(rows)
    np.testing.assert_allclose(unit[:-1], [[0.6, 0.8]] * 7, rtol=1e-6)
    np.testing.assert_allclose(gradient[:-1], np.array([-0.064, 0.048]) / scales[:-1], rtol=1e-5)
    np.testing.assert_array_equal(unit[-1], 0.0)
    np.testing.assert_array_equal(gradient[-1], 0.0)


def _weighted(rows):
    unit = normalize(rows, epsilon=0)
    return jnp.sum(unit * jnp.array([1.0, 2.0])), unit


def test_arrays_become_one_type_of_float32_at_least():
    half, whole = promote(jnp.ones((2, 2), jnp.bfloat16), np.ones((2, 2), int))
    assert half.dtype == whole.dtype == jnp.float32
    with jax.enable_x64(True):
        assert {x.dtype for x in as_pair(a=np.ones((2, 2)), b=np.ones((2, 2), np.float32))} == {np.dtype(np.float64)}


def test_errors_name_what_was_given():
    for shapes in (((2, 3), (3, 3)), ((3,), (3,)), ((0, 3), (0, 3)), ((1, 2, 3), (1, 2, 3))):
        with pytest.raises(ValueError, match=r"one shape \[n, d\], not empty; got left \(.*\) and right \("):
            as_pair(left=np.ones(shapes[0]), right=np.ones(shapes[1]))
    with pytest.raises(ValueError, match="temperature must be positive; got 0"):
        as_temperature(0, jnp.float32)
    with pytest.raises(ValueError, match=r"temperature must be positive; got -0\.5"):  # one that was learned, say
        as_temperature(jnp.float32(-0.5), jnp.float32)
    with pytest.raises(ValueError, match=r"temperature must be a scalar; got shape \(3,\)"):
        jax.jit(lambda t: as_temperature(t, jnp.float32))(jnp.ones(3))
    assert jax.jit(lambda t: as_temperature(t, jnp.float32))(-1.0) == -1.0  # not known while tracing


@pytest.mark.slow
def test_one_normalisation():
    assert models.normalize is normalize
    rows = jnp.asarray([[1e-25, 0.0], [0.0, 2.0]])
    assert losses.byol(rows, rows) == 0


def test_complex_embeddings_are_refused():
    """The product of two complex rows is no similarity; the loss would be complex too."""
    z = np.ones((4, 3), np.complex64)
    with pytest.raises(TypeError, match="embeddings must be real numbers; got complex64"):
        losses.info_nce(z, z, temperature=0.5)
