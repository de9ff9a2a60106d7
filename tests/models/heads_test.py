"""The projection head: structure, the formula, initialisation as torch's, types."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.models import Linear, ProjectionHead, heads


def test_structure_of_the_papers_heads():
    shapes = lambda head: jax.tree.map(  # noqa: E731
        lambda x: x.shape, jax.eval_shape(head.init, jax.random.key(0), jnp.zeros((2, 2048)))
    )
    cifar = shapes(ProjectionHead((512,), 128, True))
    assert cifar == {
        "params": {
            "linear0": {"kernel": (2048, 512)},
            "bn0": {"scale": (512,), "bias": (512,)},
            "linear1": {"kernel": (512, 128), "bias": (128,)},
        },
        "batch_stats": {"bn0": {"mean": (512,), "var": (512,)}},
    }
    imagenet100 = shapes(ProjectionHead((2048,), 128, False))
    assert imagenet100 == {
        "params": {
            "linear0": {"kernel": (2048, 2048), "bias": (2048,)},
            "linear1": {"kernel": (2048, 128), "bias": (128,)},
        }
    }


def test_equals_the_formula():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4))
    head = ProjectionHead((5, 3), 2, True)
    variables = head.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    variables = jax.tree.map(lambda v: rng.uniform(0.1, 1, v.shape).astype(np.float32), variables)
    y, _ = head.apply(variables, jnp.asarray(x, jnp.float32), True, mutable=["batch_stats"])

    params, expected = variables["params"], x
    for i in range(2):
        expected = expected @ params[f"linear{i}"]["kernel"]
        expected = (expected - expected.mean(0)) / np.sqrt(expected.var(0) + 1e-5)
        expected = np.maximum(expected * params[f"bn{i}"]["scale"] + params[f"bn{i}"]["bias"], 0)
    expected = expected @ params["linear2"]["kernel"] + params["linear2"]["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_without_hidden_layers_it_is_linear():
    head, x = ProjectionHead((), 3, True), jax.random.normal(jax.random.key(1), (4, 5))
    variables = head.init(jax.random.key(0), x)
    params = variables["params"]["linear0"]
    np.testing.assert_allclose(head.apply(variables, x), x @ params["kernel"] + params["bias"], rtol=1e-6)


def test_initialised_as_torch_linear():
    params = Linear(1000).init(jax.random.key(0), jnp.zeros((1, 400)))["params"]
    bound = 1 / 20  # 1 / sqrt(fan_in)
    for value in (params["kernel"], params["bias"]):
        assert float(jnp.abs(value).max()) <= bound
        assert float(jnp.abs(value).max()) > 0.99 * bound
        np.testing.assert_allclose(float(value.std()), bound / 3**0.5, rtol=0.05)  # of a uniform distribution
        np.testing.assert_allclose(float(value.mean()), 0, atol=0.1 * bound)


def test_bfloat16_keeps_float32_parameters_and_output():
    x = jax.random.normal(jax.random.key(1), (8, 16))
    head = ProjectionHead((32,), 8, True, jnp.bfloat16)
    variables = head.init(jax.random.key(0), x)
    y, updates = head.apply(variables, x, True, mutable=["batch_stats"])
    assert {v.dtype for v in jax.tree.leaves((variables, updates, y))} == {jnp.dtype(jnp.float32)}
    full, _ = ProjectionHead((32,), 8, True).apply(variables, x, True, mutable=["batch_stats"])
    error = float(jnp.linalg.norm(y - full) / jnp.linalg.norm(full))
    assert 1e-5 < error < 0.05  # computed in bfloat16, and no worse than that


def test_a_size_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"\(512, 0\)"):
        ProjectionHead((512, 0), 128)


def test_doctests():
    assert doctest.testmod(heads).failed == 0
