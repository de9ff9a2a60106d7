"""The max-pool: flax's, and its gradient XLA's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.models.pooling import max_pool


def _flax(x):
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 7, 10, 3), (1, 1, 2, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_output_and_gradient_equal_xlas(shape, ties):
    rng = np.random.default_rng(0)
    # As after a ReLU: many inputs of a window are equal, and so are the greatest of some.
    x = np.maximum(rng.integers(-2, 3, shape), 0) if ties else rng.standard_normal(shape)
    with jax.enable_x64(True):
        results = []
        for function in (max_pool, _flax):
            y, gradient = jax.vjp(jax.jit(function), jnp.asarray(x, jnp.float64))
            results.append((y, *gradient(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_bfloat16_stays_bfloat16():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda x: max_pool(x).astype(jnp.float32).sum()))(x)
    assert gradient.dtype == max_pool(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, jax.grad(lambda x: _flax(x).astype(jnp.float32).sum())(x))
