"""Batch norm against a float64 oracle, against torch, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
