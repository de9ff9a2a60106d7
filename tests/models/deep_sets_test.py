"""Deep Sets: the formula, blind to order and padding, on one device and on eight."""

import doctest
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from care_jax.models import CloudBackbone, DeepSet, Encoder, ProjectionHead, deep_set, deep_sets, encode_views

POOLINGS = ["mean", "sum", "max"]
RNG = np.random.default_rng(0)
# Eight sets of up to five points; the first is full, the last has no points.
POINTS = RNG.standard_normal((8, 5, 3)).astype(np.float32)
MASK = np.arange(5) < np.array([5, 4, 3, 2, 1, 4, 2, 0])[:, None]
_SHAPES = jax.eval_shape(DeepSet((7, 6), (5, 4)).init, jax.random.key(0), POINTS)
# With positive biases phi is positive at 0: padding must be left out of the pooling, not just be 0 before phi.
VARIABLES = jax.tree.map_with_path(
    lambda path, x: RNG.standard_normal(x.shape).astype(np.float32) + 2 * (path[-1].key == "bias"), _SHAPES
)


@cache
def _compiled(pooling):
    """Features, and the gradient by points and variables."""
    model = DeepSet((7, 6), (5, 4), pooling)

    def loss(points, variables, mask):
        features = model.apply(variables, points, True, 2, mask=mask)
        return jnp.sum(jnp.sin(features)), features

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def _features(pooling, points, mask):
    return np.asarray(_compiled(pooling)(points, VARIABLES, mask)[1])


def _by_loops(pooling, points, mask):
    """The definition, set by set and point by point, in float64."""
    params = jax.tree.map(np.float64, VARIABLES["params"])

    def linear(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    features = []
    for one_set, one_mask in zip(points.astype(np.float64), mask, strict=True):
        pooled = []
        for x, is_point in zip(one_set, one_mask, strict=True):
            if is_point:
                pooled.append(np.maximum(linear(np.maximum(linear(x, "point_linear0"), 0), "point_linear1"), 0))
        pool = {"mean": np.mean, "sum": np.sum, "max": np.max}[pooling]
        x = pool(pooled, axis=0) if pooled else np.zeros(6)
        features.append(linear(np.maximum(linear(x, "set_linear0"), 0), "set_linear1"))
    return np.stack(features)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_equals_loops_over_points(pooling):
    np.testing.assert_allclose(_features(pooling, POINTS, MASK), _by_loops(pooling, POINTS, MASK), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_order_of_points_does_not_matter(pooling):
    order = np.random.default_rng(1).permuted(np.tile(np.arange(5), (8, 1)), axis=1)
    points, mask = np.take_along_axis(POINTS, order[..., None], 1), np.take_along_axis(MASK, order, 1)
    assert not np.array_equal(points, POINTS) and not np.array_equal(mask, MASK)
    np.testing.assert_allclose(_features(pooling, points, mask), _features(pooling, POINTS, MASK), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e30])
def test_nothing_in_the_padding_leaks(pooling, padding):
    """Bit for bit, in the features and in every gradient."""
    gradients, features = _compiled(pooling)(POINTS, VARIABLES, MASK)
    points = np.where(MASK[..., None], POINTS, np.float32(padding))
    padded_gradients, padded_features = _compiled(pooling)(points, VARIABLES, MASK)
    np.testing.assert_array_equal(padded_features, features)
    jax.tree.map(np.testing.assert_array_equal, padded_gradients, gradients)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    assert not np.asarray(gradients[0])[~MASK].any()
    assert np.asarray(gradients[0])[MASK].any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_padded_set_is_the_smaller_set(pooling):
    model = DeepSet((7, 6), (5, 4), pooling)
    features = _features(pooling, POINTS, MASK)
    alone = model.apply(VARIABLES, POINTS[2:3, :3])  # eager, and without a mask
    np.testing.assert_allclose(alone[0], features[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_points_are_pooled_to_zeros(pooling):
    model = DeepSet((7, 6), (), pooling)
    variables = {"params": {name: VARIABLES["params"][name] for name in ("point_linear0", "point_linear1")}}
    assert model.num_features == 6
    pooled = np.asarray(model.apply(variables, POINTS, mask=MASK.astype(np.int32)))
    assert not pooled[-1].any() and pooled[:4].any(-1).all()
    assert not np.asarray(model.apply(variables, POINTS[:, :0])).any()


def test_a_repeated_set_has_the_same_mean_and_maximum_but_twice_the_sum():
    for pooling in ("mean", "max"):
        twice = DeepSet((7, 6), (5, 4), pooling).apply(VARIABLES, np.tile(POINTS, (1, 2, 1)))
        np.testing.assert_allclose(twice, _features(pooling, POINTS, np.ones((8, 5), bool)), rtol=1e-4, atol=1e-5)
    assert np.abs(_features("sum", POINTS, MASK)[:4] - _features("mean", POINTS, MASK)[:4]).min() > 1e-3


def test_eight_devices_compute_the_same():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    points, mask = jax.device_put((POINTS, MASK), NamedSharding(mesh, PartitionSpec("data")))
    variables = jax.device_put(VARIABLES, NamedSharding(mesh, PartitionSpec()))
    sharded, one = _compiled("mean")(points, variables, mask), _compiled("mean")(POINTS, VARIABLES, MASK)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), sharded, one)


def test_is_a_backbone():
    encoder = Encoder(DeepSet((8,), (6,)), ProjectionHead((5,), 4, False))
    views = jnp.stack([POINTS, -POINTS])
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), POINTS)
    variables = jax.tree.map(lambda x: RNG.standard_normal(x.shape).astype(np.float32), shapes)
    encode = jax.jit(partial(encoder.apply, method=encode_views, mutable=["batch_stats"]))
    (features, embeddings), stats = encode(variables, views)
    assert features.shape == (2, 8, 6) and embeddings.shape == (2, 8, 4)
    assert not jax.tree.leaves(stats)
    for view in range(2):
        expected = encoder.backbone.apply({"params": variables["params"]["backbone"]}, views[view])
        np.testing.assert_allclose(features[view], expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_float32_parameters_and_features():
    half = DeepSet((7, 6), (5, 4), "sum", jnp.bfloat16)
    initial = jax.eval_shape(half.init, jax.random.key(0), POINTS)
    features = half.apply(VARIABLES, POINTS, mask=MASK)
    assert {x.dtype for x in jax.tree.leaves((initial, features))} == {jnp.dtype(jnp.float32)}
    full = _features("sum", POINTS, MASK)
    assert 1e-5 < np.linalg.norm(features - full) / np.linalg.norm(full) < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepSet((8,), (4,), "median"), "'mean', 'sum', 'max'.*'median'"),
        (lambda: DeepSet((), (4,)), r"point_sizes \(\)"),
        (lambda: DeepSet((8, 0), (4,)), r"\(8, 0\)"),
        (lambda: DeepSet((8,), (-1,)), r"\(-1,\)"),
        (lambda: DeepSet((8,), (4,)).init(jax.random.key(0), POINTS[0]), r"\(5, 3\)"),
        (lambda: DeepSet((8,), (4,)).init(jax.random.key(0), POINTS, mask=MASK[:, :4]), r"\(8, 4\).*\(8, 5, 3\)"),
        (lambda: DeepSet((8,), (4,)).init(jax.random.key(0), POINTS, mask=MASK[..., None]), r"\(8, 5, 1\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_doctests():
    assert doctest.testmod(deep_sets).failed == 0


def _as_clouds(points, mask):
    return np.concatenate([points, mask[..., None].astype(np.float32)], axis=-1)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_cloud_is_a_set_and_its_mask_in_one_array(pooling):
    network = DeepSet((7, 6), (5, 4), pooling)
    backbone = CloudBackbone(network)
    assert backbone.num_features == network.num_features == 4
    variables = {"params": {"network": VARIABLES["params"]}}
    found = jax.jit(backbone.apply)(variables, _as_clouds(np.where(MASK[..., None], POINTS, np.nan), MASK))
    np.testing.assert_allclose(found, _features(pooling, POINTS, MASK), rtol=1e-5, atol=1e-6)
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), _as_clouds(POINTS, MASK))
    assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, variables)


def test_a_deep_set_of_a_width():
    backbone = deep_set(width=6, pooling="max", dtype=jnp.bfloat16)
    assert (backbone.num_features, backbone.network.pooling) == (12, "max")
    clouds = _as_clouds(POINTS, MASK)
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), clouds)["params"]["network"]
    sizes = {name: part["kernel"].shape for name, part in shapes.items()}
    expected = {"point_linear0": (3, 6), "point_linear1": (6, 6), "point_linear2": (6, 12)}
    assert sizes == expected | {"set_linear0": (12, 12), "set_linear1": (12, 12)}
    assert deep_set().num_features == 128 and deep_set().network.pooling == "mean"


@pytest.mark.slow
def test_views_of_clouds_are_embedded_as_those_of_images():
    encoder = Encoder(deep_set(width=4), ProjectionHead((5,), 3, True))
    clouds = _as_clouds(POINTS, MASK)
    views = jnp.stack([clouds, clouds * np.float32([-1, 1, 1, 1])])
    variables = jax.jit(encoder.init)(jax.random.key(0), clouds)
    encode = jax.jit(partial(encoder.apply, train=True, mutable=["batch_stats"], method=encode_views))
    (features, embeddings), _ = encode(variables, views)
    assert features.shape == (2, 8, 8) and embeddings.shape == (2, 8, 3)
    for view in range(2):
        (expected, embedded), _ = encoder.apply(variables, views[view], train=True, mutable=["batch_stats"])
        np.testing.assert_allclose(features[view], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(embeddings[view], embedded, rtol=1e-3, atol=1e-4)
