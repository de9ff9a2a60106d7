"""One pass over all views equals one pass a view, on one device and on eight; the sphere and its gradient."""

import doctest
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from care_jax.models import Encoder, ProjectionHead, ResNet, encode_views
from care_jax.models import encoder as encoder_module

# One bottleneck block: it has every kind of layer, the shortcut's included.
ENCODER = Encoder(ResNet((1,), bottleneck=True, width=4, stem="cifar"), ProjectionHead((8,), 4, True))
SCALES = np.array([1, 3, 0.5])[:, None, None, None, None]
VIEWS = (np.random.default_rng(1).normal(size=(3, 16, 8, 8, 3)) * SCALES).astype(np.float32)


@pytest.fixture(scope="module")
def variables() -> dict:
    variables = jax.jit(ENCODER.init)(jax.random.key(0), VIEWS[0])
    rng = np.random.default_rng(0)
    stats = jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), jnp.float32), variables["batch_stats"])
    return {"params": variables["params"], "batch_stats": stats}


def _encode(module, variables, views, *, remat=False):
    """All views in one pass, and the running averages with them."""
    outputs, updates = module.apply(variables, views, remat=remat, method=encode_views, mutable=["batch_stats"])
    return outputs, updates.get("batch_stats", {})


def _one_by_one(variables, views):
    """The definition: as many forward passes as views, each starting from the running averages the last one left."""
    stats, features, embeddings = variables["batch_stats"], [], []
    for view in views:
        (f, z), updates = ENCODER.apply(
            {"params": variables["params"], "batch_stats": stats}, view, train=True, mutable=["batch_stats"]
        )
        stats = updates["batch_stats"]
        features.append(f)
        embeddings.append(z)
    return (jnp.stack(features), jnp.stack(embeddings)), stats


def _loss_and_results(encode, params, batch_stats, views):
    (features, embeddings), stats = encode({"params": params, "batch_stats": batch_stats}, views)
    gram = jnp.einsum("vbd,wbd->vw", embeddings, embeddings)
    loss = jnp.sum(jnp.sin(gram)) + jnp.mean(jnp.square(features[0] - features[1]))
    return loss, ((features, embeddings), stats)


def _gradient_and_results(encode):
    return jax.jit(jax.grad(partial(_loss_and_results, encode), has_aux=True))


ONE_PASS = _gradient_and_results(partial(_encode, ENCODER))


@pytest.fixture(scope="module")
def expected(variables):
    return _gradient_and_results(_one_by_one)(variables["params"], variables["batch_stats"], VIEWS)


def _assert_close(actual, expected, tolerance=2e-4):
    def compare(a, e):
        assert a.shape == e.shape
        error = float(jnp.linalg.norm((a - e).ravel()) / jnp.linalg.norm(e.ravel()))
        assert error < tolerance, error

    jax.tree.map(compare, jax.device_get(actual), jax.device_get(expected))


@pytest.mark.slow
def test_one_pass_equals_one_pass_a_view(variables, expected):
    _assert_close(ONE_PASS(variables["params"], variables["batch_stats"], VIEWS), expected)


@pytest.mark.slow
def test_remat_changes_nothing_but_memory(variables, expected):
    remat = _gradient_and_results(partial(_encode, ENCODER, remat=True))
    arguments = (variables["params"], variables["batch_stats"], VIEWS)
    _assert_close(remat(*arguments), expected)
    used = [f.lower(*arguments).compile().memory_analysis().temp_size_in_bytes for f in (ONE_PASS, remat)]
    assert used[1] < 0.6 * used[0]


@pytest.mark.slow
def test_the_order_of_views_matters_to_the_running_averages_only(variables, expected):
    backwards = ONE_PASS(variables["params"], variables["batch_stats"], VIEWS[::-1])[1]
    _assert_close(jax.tree.map(lambda x: x[::-1], backwards[0]), expected[1][0])
    first, second = backwards[1]["backbone"]["bn1"]["var"], expected[1][1]["backbone"]["bn1"]["var"]
    assert not np.allclose(first, second, rtol=1e-3)


@pytest.mark.slow
def test_eight_devices_compute_the_same(variables, expected):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    views = jax.device_put(VIEWS, NamedSharding(mesh, PartitionSpec(None, "data")))
    replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    _assert_close(ONE_PASS(replicated["params"], replicated["batch_stats"], views), expected)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_a_sharded_batch_stays_sharded(variables, remat):
    """No device may gather what belongs to the others: only statistics travel, by all-reduce."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    views = jax.ShapeDtypeStruct(VIEWS.shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "data")))
    replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    encode = jax.jit(partial(_encode, ENCODER, remat=remat))
    compiled = encode.lower(replicated, views).compile()
    assert "all-reduce" in compiled.as_text()
    assert not re.search(r"\b(all-gather|all-to-all|collective-permute)", compiled.as_text())
    (features, embeddings), _ = compiled.output_shardings
    assert features.spec[1] == embeddings.spec[1] == "data"


@pytest.mark.slow
def test_modules_without_batch_norm_need_no_statistics():
    head = ProjectionHead((8,), 4, False)
    views = jax.random.normal(jax.random.key(0), (2, 4, 5))
    variables = head.init(jax.random.key(1), views[0])
    for remat in (False, True):
        outputs, stats = _encode(head, variables, views, remat=remat)
        np.testing.assert_allclose(outputs, head.apply(variables, views), rtol=1e-5, atol=1e-6)
        assert not jax.tree.leaves(stats)


@pytest.mark.slow
def test_encoder_evaluates_row_by_row(variables):
    apply = jax.jit(ENCODER.apply)
    features, embeddings = apply(variables, VIEWS[0])
    assert features.dtype == embeddings.dtype == jnp.float32
    assert features.shape == (16, ENCODER.backbone.num_features)
    np.testing.assert_allclose(jnp.linalg.norm(embeddings, axis=-1), np.ones(16), rtol=1e-6)
    half, _ = apply(variables, VIEWS[0, :8])
    np.testing.assert_allclose(features[:8], half, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        features, ENCODER.backbone.apply(_part(variables, "backbone"), VIEWS[0]), rtol=1e-4, atol=1e-5
    )


def _part(variables: dict, name: str) -> dict:
    return {collection: value[name] for collection, value in variables.items()}


@pytest.mark.slow
def test_doctests():
    assert doctest.testmod(encoder_module).failed == 0
