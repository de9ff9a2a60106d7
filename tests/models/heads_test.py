"""Heads: structure, the formulas, initialisation as torch's, types."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.models import EquivariancePredictor, LayerNormHead, Linear, ProjectionHead, heads


def _init(head, *inputs):
    """Compiled as one: operation by operation takes ten times as long."""
    return jax.jit(head.init)(jax.random.key(0), *inputs)


def _train(head, variables, *inputs):
    """Outputs, and the collections that changed."""
    return jax.jit(lambda variables, *inputs: head.apply(variables, *inputs, True, mutable=["batch_stats"]))(
        variables, *inputs
    )


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
    variables = _init(head, np.float32(x))
    variables = jax.tree.map(lambda v: rng.uniform(0.1, 1, v.shape).astype(np.float32), variables)
    y, _ = _train(head, variables, np.float32(x))

    params, expected = variables["params"], x
    for i in range(2):
        expected = expected @ params[f"linear{i}"]["kernel"]
        expected = (expected - expected.mean(0)) / np.sqrt(expected.var(0) + 1e-5)
        expected = np.maximum(expected * params[f"bn{i}"]["scale"] + params[f"bn{i}"]["bias"], 0)
    expected = expected @ params["linear2"]["kernel"] + params["linear2"]["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_normalised_outputs_have_mean_0_and_deviation_1():
    head, x = (
        ProjectionHead((5,), 3, True, output_batch_norm=True),
        np.random.default_rng(1).standard_normal((16, 4), np.float32),
    )
    variables = _init(head, x)
    assert set(variables["params"]["linear1"]) == {"kernel"} and "bn1" not in variables["params"]
    plain = ProjectionHead((5,), 3, True)
    params = {**variables["params"], "linear1": {**variables["params"]["linear1"], "bias": np.ones(3, np.float32)}}
    y, _ = _train(head, variables, x)
    z, _ = _train(plain, {**variables, "params": params}, x)
    z = np.asarray(z)
    np.testing.assert_allclose(y, (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5), rtol=1e-4, atol=1e-5)


def test_without_hidden_layers_it_is_linear():
    head, x = ProjectionHead((), 3, True), np.random.default_rng(1).standard_normal((4, 5), np.float32)
    variables = _init(head, x)
    params = variables["params"]["linear0"]
    np.testing.assert_allclose(jax.jit(head.apply)(variables, x), x @ params["kernel"] + params["bias"], rtol=1e-6)


def test_initialised_as_torch_linear():
    params = jax.device_get(_init(Linear(1000), jnp.zeros((1, 400)))["params"])
    bound = 1 / 20  # 1 / sqrt(fan_in)
    for value in (params["kernel"], params["bias"]):
        assert np.abs(value).max() <= bound
        assert np.abs(value).max() > 0.99 * bound
        np.testing.assert_allclose(float(value.std()), bound / 3**0.5, rtol=0.05)  # of a uniform distribution
        np.testing.assert_allclose(float(value.mean()), 0, atol=0.1 * bound)


def test_bfloat16_keeps_float32_parameters_and_output():
    x = np.random.default_rng(1).standard_normal((8, 16), np.float32)
    head = ProjectionHead((32,), 8, True, jnp.bfloat16)
    variables = _init(head, x)
    y, updates = _train(head, variables, x)
    assert {v.dtype for v in jax.tree.leaves((variables, updates, y))} == {jnp.dtype(jnp.float32)}
    full, _ = jax.device_get(_train(ProjectionHead((32,), 8, True), variables, x))
    error = np.linalg.norm(y - full) / np.linalg.norm(full)
    assert 1e-5 < error < 0.05  # computed in bfloat16, and no worse than that


def test_a_size_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"\(512, 0\)"):
        ProjectionHead((512, 0), 128)


def _shapes(head, *inputs):
    return jax.tree.map(lambda x: x.shape, jax.eval_shape(head.init, jax.random.key(0), *map(jnp.zeros, inputs)))


def _random_variables(head, rng, *inputs):
    """Of both signs, so that ReLU and biases matter; variances positive."""
    shapes = jax.eval_shape(head.init, jax.random.key(0), *inputs)
    values = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes)
    return jax.tree.map_with_path(lambda path, x: abs(x) + 0.5 if path[-1].key == "var" else x, values)


def _standardise(x, axis):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


def test_structure_of_essls_rotation_head():
    layer = {"kernel": (2048, 2048), "bias": (2048,)}
    norm = {"scale": (2048,), "bias": (2048,)}
    assert _shapes(LayerNormHead((2048, 2048), 4), (2, 512)) == {
        "params": {
            "linear0": {"kernel": (512, 2048), "bias": (2048,)},
            "ln0": norm,
            "linear1": layer,
            "ln1": norm,
            "linear2": {"kernel": (2048, 4), "bias": (4,)},
        }
    }


def test_layer_norm_head_equals_the_formula():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 4)).astype(np.float32)
    head = LayerNormHead((5, 3), 2)
    variables = _random_variables(head, rng, x)
    params, expected = variables["params"], x.astype(np.float64)
    for i in range(2):
        expected = expected @ params[f"linear{i}"]["kernel"] + params[f"linear{i}"]["bias"]
        expected = np.maximum(_standardise(expected, -1) * params[f"ln{i}"]["scale"] + params[f"ln{i}"]["bias"], 0)
    expected = expected @ params["linear2"]["kernel"] + params["linear2"]["bias"]
    np.testing.assert_allclose(jax.jit(head.apply)(variables, x), expected, rtol=1e-5, atol=1e-5)


def test_structure_of_equimods_predictor():
    assert _shapes(EquivariancePredictor(128), (2, 128), (2, 15)) == {
        "params": {
            "parameter_linear": {"kernel": (15, 128)},
            "parameter_bn": {"scale": (128,), "bias": (128,)},
            "linear": {"kernel": (256, 128)},
        },
        "batch_stats": {name: {"mean": (128,), "var": (128,)} for name in ("parameter_bn", "bn")},
    }
    assert _shapes(EquivariancePredictor(8, 6, batch_norm=False), (2, 4), (2, 15)) == {
        "params": {
            "parameter_linear": {"kernel": (15, 6), "bias": (6,)},
            "linear": {"kernel": (10, 8), "bias": (8,)},
        }
    }


@pytest.mark.parametrize("train", [False, True])
def test_equimods_predictor_equals_the_formula(train: bool):
    rng = np.random.default_rng(2)
    embeddings, parameters = (rng.standard_normal((12, size)).astype(np.float32) for size in (4, 5))
    predictor = EquivariancePredictor(3, 6)
    variables = _random_variables(predictor, rng, embeddings, parameters)

    def normalise(x, name):
        if train:  # two views, in adjacent rows
            return _standardise(x.reshape(6, 2, -1), 0).reshape(12, -1)
        stats = variables["batch_stats"][name]
        return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)

    params = variables["params"]
    p = normalise(parameters.astype(np.float64) @ params["parameter_linear"]["kernel"], "parameter_bn")
    p = p * params["parameter_bn"]["scale"] + params["parameter_bn"]["bias"]
    expected = normalise(np.concatenate([embeddings, p], 1) @ params["linear"]["kernel"], "bn")
    apply = jax.jit(lambda *arrays: predictor.apply(*arrays, train, 2, mutable=["batch_stats"]))
    actual, updates = apply(variables, embeddings, parameters)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), updates["batch_stats"], variables["batch_stats"])
    assert set(jax.tree.leaves(moved)) == {train}


def test_equimods_predictor_without_batch_norm_treats_rows_alone():
    rng = np.random.default_rng(3)
    embeddings, parameters = (rng.standard_normal((4, size)).astype(np.float32) for size in (4, 5))
    predictor = EquivariancePredictor(3, 6, batch_norm=False)
    variables = _random_variables(predictor, rng, embeddings, parameters)
    params = variables["params"]
    p = parameters @ params["parameter_linear"]["kernel"] + params["parameter_linear"]["bias"]
    expected = np.concatenate([embeddings, p], 1) @ params["linear"]["kernel"] + params["linear"]["bias"]
    actual, _ = _train(predictor, variables, embeddings, parameters)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("head", "sizes"), [(LayerNormHead, ((8,), 3)), (EquivariancePredictor, (3, 6))])
def test_rivals_heads_in_bfloat16_keep_float32_parameters_and_output(head, sizes):
    rng = np.random.default_rng(4)
    inputs = [rng.standard_normal((8, 5)).astype(np.float32) for _ in range(2 if head is EquivariancePredictor else 1)]
    full, half = head(*sizes), head(*sizes, dtype=jnp.bfloat16)
    variables = _random_variables(full, rng, *inputs)
    y, z = jax.jit(half.apply)(variables, *inputs), jax.jit(full.apply)(variables, *inputs)
    assert jax.eval_shape(half.init, jax.random.key(0), *inputs) == jax.eval_shape(
        full.init, jax.random.key(0), *inputs
    )
    assert y.dtype == jnp.float32
    assert 1e-5 < np.linalg.norm(np.asarray(y) - z) / np.linalg.norm(z) < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerNormHead((0, 8), 4), r"\(0, 8\) and 4"),
        (lambda: LayerNormHead((8,), 0), r"\(8,\) and 0"),
        (lambda: EquivariancePredictor(0), "size 0"),
        (lambda: EquivariancePredictor(8, -1), "parameter_size -1"),
        (lambda: _shapes(EquivariancePredictor(8), (4, 8), (3, 15)), r"\(4, 8\) and \(3, 15\)"),
    ],
)
def test_bad_sizes_of_rivals_heads_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_doctests():
    assert doctest.testmod(heads).failed == 0
