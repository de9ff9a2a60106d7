"""The Vision Transformer: timm's sizes, the formula, positions of other image sizes, one device and eight."""

import doctest
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from care_jax.models import Encoder, ProjectionHead, VisionTransformer, encode_views, vit, vit_base, vit_small

MODEL = VisionTransformer(depth=2, num_heads=2, width=4, patch_size=2)
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((8, 4, 8, 3)).astype(np.float32)  # patches 2 x 4
_SHAPES = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
# Far from initialisation, so that attention is far from uniform and no bias is nothing.
VARIABLES = jax.tree.map(lambda x: RNG.standard_normal(x.shape).astype(np.float32), _SHAPES)
_erf = np.vectorize(math.erf)


APPLY = jax.jit(MODEL.apply)


def _by_hand(variables, images, positions=None):
    """The definition in float64: one image, one head, one query at a time."""
    params = jax.tree.map(np.float64, variables["params"])

    def norm(x, p):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    def attend(x, p):
        q, k, v = (np.einsum("nd,dhc->hnc", x, p[name]["kernel"]) + p[name]["bias"][:, None] for name in _QKV)
        y = p["out"]["bias"]
        for head in range(2):
            read = []
            for query in q[head]:
                weights = np.exp(k[head] @ query / math.sqrt(4))
                read.append(weights @ v[head] / weights.sum())
            y = y + np.stack(read) @ p["out"]["kernel"][head]
        return y

    features = []
    positions = params["position_embedding"] if positions is None else positions
    for image in images.astype(np.float64):
        tokens = [params["class_token"] + params["class_position"]]
        for row in range(image.shape[0] // 2):
            for column in range(image.shape[1] // 2):
                patch = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                embedded = np.einsum("ijc,ijcd->d", patch, params["patch_embedding"]["kernel"])
                tokens.append(embedded + params["patch_embedding"]["bias"] + positions[row, column])
        x = np.stack(tokens)
        for block in (params["block0"], params["block1"]):
            x = x + attend(norm(x, block["ln1"]), block["attention"])
            y = dense(norm(x, block["ln2"]), block["linear1"])
            x = x + dense(y * (1 + _erf(y / math.sqrt(2))) / 2, block["linear2"])
        features.append(norm(x, params["ln"])[0])
    return np.stack(features)


_QKV = ("query", "key", "value")


@pytest.mark.parametrize(("make", "num_features", "count"), [(vit_small, 384, 21_665_664), (vit_base, 768, 85_798_656)])
def test_has_timms_number_of_parameters(make, num_features, count):
    model = make(stem="imagenet")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == count
    assert set(shapes) == {"params"}
    assert shapes["params"]["position_embedding"].shape == (14, 14, num_features)
    assert model.num_features == num_features
    assert make(stem="cifar", width=8).patch_size == 4


@pytest.mark.slow
def test_initialised_as_timm():
    model = VisionTransformer(1, 4, 32, 4)
    params = jax.jit(model.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, 32, 32, 3)))["params"]
    kernels = [params["block0"]["linear1"]["kernel"], params["block0"]["attention"]["query"]["kernel"]]
    for value in (*kernels, params["position_embedding"]):
        np.testing.assert_allclose(float(value.std()), 0.02, rtol=0.05)
    patch_embedding = params["patch_embedding"]["kernel"]
    np.testing.assert_allclose(float(jnp.abs(patch_embedding).max()), 48**-0.5, rtol=0.01)
    assert not params["block0"]["attention"]["out"]["bias"].any() and not params["class_token"].any()


def test_equals_the_formula():
    expected = _by_hand(VARIABLES, IMAGES)
    np.testing.assert_allclose(APPLY(VARIABLES, IMAGES), expected, rtol=1e-4, atol=1e-4)


def _permuted_patches(images, order):
    patches = images.reshape(8, 2, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(8, 8, 2, 2, 3)[:, order]
    return patches.reshape(8, 2, 4, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def test_only_position_embeddings_tell_patches_apart():
    moved = _permuted_patches(IMAGES, np.random.default_rng(1).permutation(8))
    without = {"params": VARIABLES["params"] | {"position_embedding": np.zeros((2, 4, 8), np.float32)}}
    np.testing.assert_allclose(APPLY(without, moved), APPLY(without, IMAGES), rtol=1e-4, atol=1e-4)
    assert np.abs(APPLY(VARIABLES, moved) - APPLY(VARIABLES, IMAGES)).max() > 0.1


# Rows of weights: twice as many patches, and half as many, where the triangle is as wide as the coarser grid.
_TWO_TO_FOUR = np.array([[4, 0], [3, 1], [1, 3], [0, 4]]) / 4
_FOUR_TO_TWO = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7


def test_images_of_another_size_have_their_positions_interpolated():
    images = RNG.standard_normal((2, 8, 4, 3)).astype(np.float32)  # patches 4 x 2
    positions = VARIABLES["params"]["position_embedding"].astype(np.float64)
    positions = np.einsum("ir,jc,rcd->ijd", _TWO_TO_FOUR, _FOUR_TO_TWO, positions)
    expected = _by_hand(VARIABLES, images, positions)
    np.testing.assert_allclose(APPLY(VARIABLES, images), expected, rtol=1e-4, atol=1e-4)


def test_eight_devices_compute_the_same():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    images = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec("data")))
    variables = jax.device_put(VARIABLES, NamedSharding(mesh, PartitionSpec()))
    sharded = APPLY(variables, images)
    assert sharded.sharding.spec[0] == "data"
    np.testing.assert_allclose(sharded, APPLY(VARIABLES, IMAGES), rtol=1e-4, atol=1e-4)


def test_every_parameter_has_a_finite_gradient():
    model = VisionTransformer(depth=1, num_heads=2, width=4, patch_size=2)
    variables = {"params": {name: value for name, value in VARIABLES["params"].items() if name != "block1"}}
    gradient = jax.jit(jax.grad(lambda variables: jnp.sum(jnp.sin(model.apply(variables, IMAGES)))))(variables)
    for path, value in jax.tree.leaves_with_path(gradient):
        # The softmax doesn't see the keys' bias: it adds the same to all logits of a query.
        assert np.isfinite(value).all() and (value.any() or "['key']['bias']" in jax.tree_util.keystr(path))


def test_is_a_backbone():
    encoder = Encoder(MODEL, ProjectionHead((5,), 4, False))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), IMAGES)
    variables = jax.tree.map(lambda x: RNG.standard_normal(x.shape).astype(np.float32), shapes)
    variables = {"params": variables["params"] | {"backbone": VARIABLES["params"]}}
    views = jnp.stack([IMAGES, -IMAGES])
    encode = jax.jit(partial(encoder.apply, method=encode_views, mutable=["batch_stats"]))
    (features, embeddings), stats = encode(variables, views)
    assert embeddings.shape == (2, 8, 4) and not jax.tree.leaves(stats)
    for view in range(2):
        np.testing.assert_allclose(features[view], APPLY(VARIABLES, views[view]), rtol=1e-4, atol=1e-4)


def test_bfloat16_keeps_float32_parameters_and_features():
    half = VisionTransformer(2, 2, 4, 2, jnp.bfloat16)
    initial = jax.eval_shape(half.init, jax.random.key(0), IMAGES)
    features = jax.jit(half.apply)(VARIABLES, IMAGES)
    assert {x.dtype for x in jax.tree.leaves((initial, features))} == {jnp.dtype(jnp.float32)}
    full = APPLY(VARIABLES, IMAGES)
    assert 1e-4 < np.linalg.norm(features - full) / np.linalg.norm(full) < 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vit_small(stem="stl10"), "'cifar', 'imagenet'.*'stl10'"),
        (lambda: VisionTransformer(0, 2), "depth must be positive, got 0"),
        (lambda: VisionTransformer(1, -2), "num_heads must be positive, got -2"),
        (lambda: MODEL.apply(VARIABLES, IMAGES[:, :3]), r"patch_size 2.*\(8, 3, 8, 3\)"),
        (lambda: MODEL.apply(VARIABLES, IMAGES[:, :, :5]), r"patch_size 2.*\(8, 4, 5, 3\)"),
        (lambda: MODEL.apply(VARIABLES, IMAGES[0]), r"\(4, 8, 3\)"),
        (lambda: APPLY(VARIABLES, IMAGES.astype(np.uint8)), "images must be normalised floats, got uint8"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_doctests():
    assert doctest.testmod(vit).failed == 0
