"""InfoNCE against a queue: loops in float64, closed forms, precision, gradients, devices."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from care_jax.losses import queue_info_nce

# Value, and gradients by all three arrays: one compilation a shape.
value_and_gradients = jax.jit(jax.value_and_grad(queue_info_nce, (0, 1, 2)))


def unit_rows(seed: int, n: int, d: int = 5) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def arrays() -> tuple[np.ndarray, ...]:
    return unit_rows(0, 8), unit_rows(1, 8), unit_rows(2, 16)


def loops(queries, keys, queue, temperature):
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        positive = math.exp(float(np.dot(query, key)) / temperature)
        negatives = sum(math.exp(float(np.dot(query, other)) / temperature) for other in queue)
        total -= math.log(positive / (positive + negatives))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.1, 1.5])
def test_loops(temperature):
    with jax.enable_x64(True):
        value, _ = value_and_gradients(*arrays(), temperature=temperature)
    np.testing.assert_allclose(value, loops(*arrays(), temperature), rtol=1e-12)


def test_gradients():
    with jax.enable_x64(True):
        loss = jax.jit(lambda *arguments: queue_info_nce(*arguments[:3], temperature=arguments[3]))
        check_grads(loss, (*map(jnp.asarray, arrays()), jnp.asarray(0.4)), order=1, modes=["rev"], rtol=1e-6)


def test_collapse_is_chance():
    z = np.tile(unit_rows(3, 1), (16, 1))
    with jax.enable_x64(True):
        for temperature in (0.01, 0.5):
            value, _ = value_and_gradients(z[:8], z[:8], z, temperature=temperature)
            np.testing.assert_allclose(value, math.log(17), rtol=1e-12)


def test_a_loss_far_below_the_logits_keeps_its_digits_in_float32():
    eye = np.eye(5, dtype=np.float32)
    value, _ = value_and_gradients(eye[:2], eye[:2], eye[2:], temperature=0.05)
    np.testing.assert_allclose(value, math.log1p(3 * math.exp(-20)), rtol=1e-5)


def test_the_batch_is_no_negative():
    queries, keys, queue = arrays()
    with jax.enable_x64(True):
        together, _ = value_and_gradients(queries, keys, queue, temperature=0.3)
        # Each query eight times is as good as alone.
        pairs = [[np.tile(z[i], (8, 1)) for z in (queries, keys)] for i in range(8)]
        alone = [float(value_and_gradients(*pair, queue, temperature=0.3)[0]) for pair in pairs]
        # Which rows are paired matters, the order of the queue does not.
        np.testing.assert_allclose(np.mean(alone), together, rtol=1e-12)
        assert abs(value_and_gradients(queries, keys[::-1], queue, temperature=0.3)[0] - together) > 1e-3
        np.testing.assert_allclose(value_and_gradients(queries, keys, queue[::-1], temperature=0.3)[0], together)


def test_half_precision_is_accumulated_in_float32():
    halves = [jnp.asarray(z, jnp.bfloat16) for z in arrays()]
    value, gradients = value_and_gradients(*halves, temperature=0.01)
    exact = loops(*(np.asarray(z, np.float64) for z in halves), 0.01)
    assert value.dtype == jnp.float32 and all(np.all(np.isfinite(gradient)) for gradient in gradients)
    np.testing.assert_allclose(value, exact, rtol=1e-5)


def test_eager_jit_and_eight_devices_agree():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    by_rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    single = [jnp.asarray(z, jnp.float32) for z in arrays()]
    jitted = value_and_gradients(*single, temperature=0.2)
    on_eight = value_and_gradients(*(jax.device_put(z, by_rows) for z in single), temperature=0.2)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), on_eight, jitted)
    np.testing.assert_allclose(queue_info_nce(*single, temperature=0.2), jitted[0], rtol=2e-6)


def test_matrix_products_are_exact():
    program = str(jax.make_jaxpr(jax.value_and_grad(partial(queue_info_nce, temperature=0.2)))(*arrays()))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 0


def test_errors_name_the_value():
    queries, keys, queue = arrays()
    loss = partial(queue_info_nce, temperature=1.0)
    for temperature in (0, -0.5, float("nan")):
        with pytest.raises(ValueError, match=f"temperature must be positive; got {temperature}"):
            queue_info_nce(queries, keys, queue, temperature=temperature)
    for bad, shapes in [
        ((queries, keys[:5], queue), r"queries \(8, 5\), keys \(5, 5\)"),
        ((queries, keys, queue[:, :4]), r"queue \(16, 4\)"),
        ((queries, keys, queue[0]), r"queue \(5,\)"),
        ((queries[0], keys[0], queue), r"queries \(5,\)"),
        ((queries[:0], keys[:0], queue), r"not be empty; got queries \(0, 5\)"),
        ((queries, keys, queue[:0]), r"not be empty; .*queue \(0, 5\)"),
    ]:
        with pytest.raises(ValueError, match=shapes):
            loss(*bad)
