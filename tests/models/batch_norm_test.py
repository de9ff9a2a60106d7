"""Batch norm against a float64 oracle, against torch, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.devices.collectives import collectives
from care_jax.models import BatchNorm


def _variables(channels: int, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    draw = lambda low, high: rng.uniform(low, high, channels).astype(np.float32)  # noqa: E731
    return {
        "params": {"scale": draw(0.5, 1.5), "bias": draw(-1, 1)},
        "batch_stats": {"mean": draw(-1, 1), "var": draw(0.5, 1.5)},
    }


def _oracle(x: np.ndarray, variables: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """torch's batch norm, by the formula, in float64, channel by channel: (output, running mean, running var)."""
    params, stats = variables["params"], variables["batch_stats"]
    y, running_mean, running_var = np.empty(x.shape), np.empty(x.shape[-1]), np.empty(x.shape[-1])
    for c in range(x.shape[-1]):
        values = x[..., c].astype(np.float64)
        mean, var = values.mean(), values.var()
        y[..., c] = (values - mean) / np.sqrt(var + 1e-5) * params["scale"][c] + params["bias"][c]
        running_mean[c] = 0.9 * stats["mean"][c] + 0.1 * mean
        running_var[c] = 0.9 * stats["var"][c] + 0.1 * values.var(ddof=1)
    return y, running_mean, running_var


def _inputs(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 2 + 3).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5)])
def test_training_equals_the_oracle(shape):
    x, variables = _inputs(shape), _variables(5)
    y, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    expected, running_mean, running_var = _oracle(x, variables)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], running_mean, rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], running_var, rtol=1e-6)


def test_the_callers_arrays_are_not_written_to():
    variables = _variables(5)
    BatchNorm().apply(variables, _inputs((4, 5)), True, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, variables, _variables(5))


def test_evaluation_uses_the_running_averages():
    x, variables = _inputs((4, 3, 5)), _variables(5)
    params, stats = variables["params"], variables["batch_stats"]
    y = BatchNorm().apply(variables, x)
    expected = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (6, 4, 3, 5)])
def test_equals_torch(shape):
    torch = pytest.importorskip("torch")
    x, variables = _inputs(shape), _variables(5)
    norm = torch.nn.BatchNorm1d(5) if len(shape) == 2 else torch.nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.copy_(torch.from_numpy(variables["params"]["scale"]))
        norm.bias.copy_(torch.from_numpy(variables["params"]["bias"]))
        norm.running_mean.copy_(torch.from_numpy(variables["batch_stats"]["mean"]))
        norm.running_var.copy_(torch.from_numpy(variables["batch_stats"]["var"]))
    theirs = torch.from_numpy(np.moveaxis(x, -1, 1)).requires_grad_()
    weights = _inputs(shape, seed=2)
    output = norm(theirs)
    (output * torch.from_numpy(np.moveaxis(weights, -1, 1))).sum().backward()

    def weighted_sum(x):
        y, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
        return jnp.sum(y * weights), (y, updates["batch_stats"])

    gradient, (y, stats) = jax.grad(weighted_sum, has_aux=True)(x)
    np.testing.assert_allclose(y, np.moveaxis(output.detach().numpy(), 1, -1), atol=1e-5)
    np.testing.assert_allclose(gradient, np.moveaxis(theirs.grad.numpy(), 1, -1), atol=1e-5)
    np.testing.assert_allclose(stats["mean"], norm.running_mean, rtol=1e-6)
    np.testing.assert_allclose(stats["var"], norm.running_var, rtol=1e-6)


def test_each_view_has_its_own_statistics_in_order():
    views, variables = _inputs((3, 4, 2, 5)) * np.array([1, 5, 0.2], np.float32)[:, None, None, None], _variables(5)
    expected, stats = [], variables["batch_stats"]
    for view in views:
        y, updates = BatchNorm().apply({**variables, "batch_stats": stats}, view, True, mutable=["batch_stats"])
        stats = updates["batch_stats"]
        expected.append(y)
    rows = np.swapaxes(views, 0, 1).reshape(12, 2, 5)
    y, updates = BatchNorm().apply(variables, rows, True, 3, mutable=["batch_stats"])
    np.testing.assert_allclose(np.swapaxes(y.reshape(4, 3, 2, 5), 0, 1), expected, atol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], stats["mean"], rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], stats["var"], rtol=1e-6)


def test_a_large_mean_does_not_cancel_the_variance():
    x = (1000 + np.random.default_rng(0).standard_normal((256, 8))).astype(np.float32)
    y, _ = BatchNorm().init_with_output(jax.random.key(0), x, True)
    expected = (x.astype(np.float64) - x.mean(0, dtype=np.float64)) / x.astype(np.float64).std(0)
    np.testing.assert_allclose(y, expected, atol=1e-3)  # E[x^2] - E[x]^2 in float32 is off by tenths here


def test_bfloat16_input_keeps_float32_statistics():
    x = jnp.asarray(_inputs((64, 5)), jnp.bfloat16)
    y, updates = BatchNorm().apply(_variables(5), x, True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert all(value.dtype == jnp.float32 for value in updates["batch_stats"].values())
    expected = _oracle(np.asarray(x, np.float32), _variables(5))
    np.testing.assert_allclose(updates["batch_stats"]["var"], expected[2], rtol=1e-5)


def test_bfloat16_statistics_of_one_pass_are_as_exact_as_the_input():
    """E[x^2] - E[x]^2 loses less than the rounding to bfloat16 has lost already, however far the mean is from 0."""
    rng = np.random.default_rng(0)
    for mean in (0, 1, 10, 100):
        exact = mean + rng.standard_normal((4096, 8))
        x = jnp.asarray(exact, jnp.bfloat16)
        _, updates = BatchNorm().apply(_variables(8), x, True, mutable=["batch_stats"])
        _, _, rounded = _oracle(np.asarray(x, np.float32), _variables(8))
        _, _, true = _oracle(exact, _variables(8))
        by_us, by_rounding = np.abs(updates["batch_stats"]["var"] - rounded), np.abs(rounded - true)
        assert by_us.max() <= max(by_rounding.max(), 2e-6), mean
    constant = jnp.full((64, 3), 100.5, jnp.bfloat16)
    y, updates = BatchNorm(use_scale=False, use_bias=False).apply(
        {"batch_stats": {"mean": np.zeros(3), "var": np.ones(3)}}, constant, True, mutable=["batch_stats"]
    )
    assert np.isfinite(np.asarray(y, np.float32)).all() and (updates["batch_stats"]["var"] >= 0.9).all()


@pytest.mark.parametrize("use_scale,use_bias", [(True, True), (False, True), (True, False), (False, False)])
def test_the_gradient_is_that_of_the_formula(use_scale, use_bias):
    """Against JAX's own derivative of the two-pass formula in float64, with two views."""
    rng, num_views = np.random.default_rng(3), 2
    with jax.enable_x64(True):
        x, weights = (jnp.asarray(rng.standard_normal((8, 3, 2, 5)) + 2) for _ in range(2))
        module = BatchNorm(use_scale=use_scale, use_bias=use_bias)
        params = {"scale": jnp.asarray(rng.uniform(0.5, 1.5, 5))} if use_scale else {}
        params |= {"bias": jnp.asarray(rng.standard_normal(5))} if use_bias else {}
        stats = {"mean": jnp.zeros(5), "var": jnp.ones(5)}

        def ours(params, x):
            y, _ = module.apply({"params": params, "batch_stats": stats}, x, True, num_views, mutable=["batch_stats"])
            return jnp.sum(y * weights)

        def formula(params, x):
            views = x.reshape(4, num_views, 3, 2, 5)
            centered = views - views.mean((0, 2, 3), keepdims=True)
            y = centered / jnp.sqrt(jnp.square(centered).mean((0, 2, 3), keepdims=True) + 1e-5)
            return jnp.sum((y * params.get("scale", 1.0) + params.get("bias", 0.0)).reshape(x.shape) * weights)

        for found, expected in zip(
            jax.tree.leaves(jax.grad(ours, (0, 1))(params, x)),
            jax.tree.leaves(jax.grad(formula, (0, 1))(params, x)),
            strict=True,
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_devices_exchange_statistics_once_each_way():
    """In bfloat16; in float32 the second of two passes needs the mean of the first."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.P("data"))

    def exchanges(dtype):
        def update(variables, x):
            def loss(params, x):
                y, updates = BatchNorm().apply({**variables, "params": params}, x, True, 2, mutable=["batch_stats"])
                return jnp.sum(y.astype(jnp.float32) ** 3), updates

            return jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)

        x = jax.ShapeDtypeStruct((32, 4, 4, 5), dtype, sharding=rows)
        found = collectives(jax.jit(update).lower(_variables(5), x).compile().as_text())
        assert {one.kind for one in found} == {"all-reduce"}
        return len(found)

    assert (exchanges(jnp.bfloat16), exchanges(jnp.float32)) == (2, 3)


def test_scale_and_bias_are_optional():
    x = _inputs((4, 5))
    assert set(BatchNorm(use_bias=False).init(jax.random.key(0), x)["params"]) == {"scale"}
    variables = BatchNorm(use_scale=False, use_bias=False).init(jax.random.key(0), x)
    assert "params" not in variables
    y, _ = BatchNorm(use_scale=False, use_bias=False).apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.std(0), np.ones(5), rtol=1e-4)


def test_initialisation_leaves_the_running_averages_alone():
    stats = BatchNorm().init(jax.random.key(0), _inputs((4, 5)), True)["batch_stats"]
    np.testing.assert_array_equal(stats["mean"], np.zeros(5))
    np.testing.assert_array_equal(stats["var"], np.ones(5))


def test_errors_name_the_shape():
    with pytest.raises(ValueError, match=r"one value per channel: \(1, 5\)"):
        BatchNorm().apply(_variables(5), np.zeros((1, 5)), True, mutable=["batch_stats"])
    with pytest.raises(ValueError, match=r"\(5, 5\), num_views 2"):
        BatchNorm().apply(_variables(5), np.zeros((5, 5)), True, 2, mutable=["batch_stats"])
