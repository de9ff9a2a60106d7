"""ResNets against torchvision's numbers."""

import doctest
import zlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.models import ResNet, resnet18, resnet34, resnet50, variables_from_torch, variables_to_torch
from care_jax.models import resnet as resnet_module

ARCHITECTURES = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def _seeded_weights(model: ResNet) -> dict:
    """The variables behind the golden numbers: every torchvision name seeds its own array (golden/README)."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    state = {}
    for name, like in variables_to_torch(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)).items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("running_var"):
            value = 0.5 + rng.random(like.shape)
        elif name.endswith("running_mean"):
            value = 0.1 * rng.standard_normal(like.shape)
        elif like.ndim == 1 and name.endswith("weight"):
            value = 0.8 + 0.4 * rng.random(like.shape)
        elif like.ndim == 1:
            value = 0.1 * rng.standard_normal(like.shape)
        else:
            value = rng.standard_normal(like.shape) * np.sqrt(2 / np.prod(like.shape[1:]))
        state[name] = value.astype(np.float32)
    return variables_from_torch(state)


def _relative_error(actual, expected) -> float:
    return float(np.linalg.norm(np.asarray(actual) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("stem", ["cifar", pytest.param("imagenet", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    ["resnet18", pytest.param("resnet34", marks=pytest.mark.slow), pytest.param("resnet50", marks=pytest.mark.slow)],
)
def test_equals_torchvision(golden, name, stem):
    expected = {
        key.removeprefix(f"{name}/{stem}/"): value
        for key, value in golden("resnet").items()
        if f"{name}/{stem}/" in key
    }
    model = ARCHITECTURES[name](stem=stem)
    variables, images = _seeded_weights(model), expected["input_nhwc"]

    @jax.jit
    def both(variables, images):
        return model.apply(variables, images), model.apply(variables, images, train=True, mutable=["batch_stats"])

    features_eval, (features_train, updates) = both(variables, images)
    assert _relative_error(features_eval, expected["features_eval"]) < 1e-4
    assert _relative_error(features_train, expected["features_train"]) < 1e-4
    bn1 = updates["batch_stats"]["bn1"]
    assert _relative_error(bn1["mean"], expected["bn1.running_mean_after_train"]) < 1e-4
    assert _relative_error(bn1["var"], expected["bn1.running_var_after_train"]) < 1e-4
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == expected["num_params"]  # without the classifier
    assert features_eval.shape[-1] == model.num_features


def test_width_scales_every_layer():
    model = resnet18(stem="cifar", width=16)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert params["conv1"]["kernel"].shape == (3, 3, 3, 16)
    assert params["layer4_1"]["conv2"]["kernel"].shape == (3, 3, 128, 128)
    assert model.num_features == 128
    assert resnet50(stem="imagenet", width=16).num_features == 512


def test_initialised_as_torchvision():
    model = ResNet((1,), bottleneck=True, width=64)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"])
    block = params["layer1_0"]
    for module in (params["conv1"], block["conv1"], block["conv2"], block["downsample_conv"]):
        kernel = module["kernel"]
        deviation = (2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3])) ** 0.5
        np.testing.assert_allclose(float(kernel.std()), deviation, rtol=0.05)
        assert np.abs(kernel).max() > 2.5 * deviation  # not truncated at two standard deviations
    np.testing.assert_array_equal(block["bn3"]["scale"], np.ones(256))
    np.testing.assert_array_equal(block["bn3"]["bias"], np.zeros(256))


def test_zero_init_residual_zeroes_the_last_scale_of_each_block_only():
    model = ResNet((1,), bottleneck=True, width=4, zero_init_residual=True)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"])
    block = params["layer1_0"]
    assert {name for name, module in block.items() if not any(x.any() for x in module.values())} == {"bn3"}
    assert params["bn1"]["scale"].all()


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="'tiny'"):
        resnet18(stem="tiny")
    with pytest.raises(ValueError, match=r"\(2, 0\)"):
        ResNet((2, 0))
    with pytest.raises(ValueError, match="got 0"):
        resnet18(stem="cifar", width=0)
    with pytest.raises(ValueError, match=r"^ResNet images must be normalised floats, got uint8"):
        jax.eval_shape(ResNet((1,), width=4).init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.uint8))


def test_doctests():
    assert doctest.testmod(resnet_module).failed == 0


@pytest.mark.slow
def test_bfloat16_computes_in_halves_and_keeps_the_rest_in_float32():
    images = np.random.default_rng(0).standard_normal((8, 16, 16, 3), np.float32)
    results = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model = ResNet((1,), width=8, stem="imagenet", dtype=dtype)
        variables = jax.jit(model.init)(jax.random.key(1), images)

        @jax.jit
        def gradients(params, model=model, variables=variables):
            def loss(params):
                features, updates = model.apply({**variables, "params": params}, images, True, mutable=["batch_stats"])
                return jnp.sum(features**2), (features, updates["batch_stats"])

            return jax.grad(loss, has_aux=True)(params)

        results[dtype] = gradients(variables["params"])
    for leaf in jax.tree.leaves(results[jnp.bfloat16]):
        assert leaf.dtype == jnp.float32
    (_, (halves, half_stats)), (_, (floats, float_stats)) = results[jnp.bfloat16], results[jnp.float32]
    halves, floats = np.asarray(halves), np.asarray(floats)
    difference = np.abs(halves - floats).max() / np.abs(floats).max()
    assert 1e-5 < difference < 0.03  # rounded to 8 bits, and no more than that
    chex.assert_trees_all_close(half_stats, float_stats, rtol=0.03, atol=0.01)
