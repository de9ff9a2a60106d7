"""BYOL: loops in float64, zero rows, digits near zero, gradients, devices."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from care_jax.losses import byol

value_and_gradients = jax.jit(jax.value_and_grad(byol, (0, 1)))


def rows(seed: int, n: int = 8, d: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(0.1, 3, n)[:, None]


def loops(predictions, targets):
    total = 0.0
    for p, t in zip(predictions, targets, strict=True):
        lengths = math.sqrt(float(np.dot(p, p)) * float(np.dot(t, t)))
        total += 2 - 2 * float(np.dot(p, t)) / lengths
    return total / len(predictions)


def test_loops():
    with jax.enable_x64(True):
        value, _ = value_and_gradients(rows(0), rows(1))
    np.testing.assert_allclose(value, loops(rows(0), rows(1)), rtol=1e-12)
    value, _ = value_and_gradients(rows(0), rows(1))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, loops(rows(0), rows(1)), rtol=1e-6)


def test_only_directions_matter():
    scale = np.array([1e-30, 1e-18, 1e-3, 1, 1, 1e3, 1e18, 1e30])[
        :, None
    ]  # squares of the first and last are past float32
    value, gradients = value_and_gradients(np.float32(rows(0) * scale), np.float32(rows(1) / scale))
    np.testing.assert_allclose(value, loops(rows(0), rows(1)), rtol=1e-5)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    with jax.enable_x64(True):
        assert value_and_gradients(rows(0), 2 * rows(0))[0] < 1e-30
        np.testing.assert_allclose(value_and_gradients(rows(0), -rows(0))[0], 4, rtol=1e-12)
        _, (gradient, _) = value_and_gradients(rows(0), rows(1))
    np.testing.assert_allclose(np.sum(np.asarray(gradient) * rows(0), axis=1), 0, atol=1e-12)


def test_gradients_flow_into_both():
    with jax.enable_x64(True):
        check_grads(jax.jit(byol), (jnp.asarray(rows(2)), jnp.asarray(rows(3))), order=1, modes=["rev"], rtol=1e-6)
        _, gradients = value_and_gradients(rows(2), rows(3))
    assert all(np.max(np.abs(gradient)) > 0.01 for gradient in gradients)


def test_close_directions_keep_their_digits_in_float32():
    p = rows(4).astype(np.float32)
    t = (rows(4) + 1e-4 * rows(5)).astype(np.float32)
    p64, t64 = (z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True) for z in (p, t))
    np.testing.assert_allclose(value_and_gradients(p, t)[0], np.mean(np.sum((p64 - t64) ** 2, axis=1)), rtol=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_zero_rows_have_cosine_zero(dtype):
    p, t = (jnp.asarray(rows(seed), dtype) for seed in (6, 7))
    settled = loops(*(np.asarray(z[2:], np.float64) for z in (p, t)))
    value, gradients = value_and_gradients(p.at[0].set(0), t.at[:2].set(0))  # both are zero, then the target alone
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, (6 * settled + 2 * 2) / 8, rtol=1e-5)
    for gradient in gradients:
        assert gradient.dtype == dtype and np.all(np.isfinite(gradient)) and not np.any(gradient[:2])


def test_eager_jit_and_eight_devices_agree():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    by_rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    single = [jnp.asarray(rows(seed), jnp.float32) for seed in (8, 9)]
    jitted = value_and_gradients(*single)
    on_eight = value_and_gradients(*(jax.device_put(z, by_rows) for z in single))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), on_eight, jitted)
    np.testing.assert_allclose(byol(*single), jitted[0], rtol=2e-6)


def test_errors_name_the_value():
    z = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"got predictions \(4, 3\) and targets \(3, 3\)"):
        byol(z, z[:3])
    with pytest.raises(ValueError, match=r"got predictions \(4,\)"):
        byol(z[:, 0], z[:, 0])
    with pytest.raises(ValueError, match=r"got predictions \(0, 3\)"):
        byol(z[:0], z[:0])
