"""InfoNCE, alignment, uniformity: the official numbers, loops in float64, closed forms, precision, devices."""

import math
import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from care_jax import losses
from care_jax.devices import sharding
from care_jax.losses import contrastive

TERMS = losses.alignment, losses.uniformity
LOSSES = {"info_nce": losses.info_nce, "alignment": losses.alignment, "uniformity": losses.uniformity}


@jax.jit
def all_losses(z1, z2, temperature):
    """Value, and gradients by both views, of every loss: one compilation a shape."""
    views = {name: partial(loss, temperature=temperature) for name, loss in LOSSES.items()}
    return {name: jax.value_and_grad(loss, (0, 1))(z1, z2) for name, loss in views.items()}


def unit_rows(seed: int, n: int, d: int) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def assert_close(actual, expected, rtol):
    """Relative to the largest entry: an entry of a gradient may be small because large terms cancel in it."""
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.max(np.abs(expected)))


def loops(z1, z2, temperature):
    """The three losses as their definitions read, in Python floats."""
    z, n = [*z1, *z2], len(z1)
    info_nce = uniformity = 0.0
    for a in range(2 * n):
        positive = (a + n) % (2 * n)
        exps = [math.exp(float(np.dot(z[a], z[b])) / temperature) for b in range(2 * n)]
        info_nce -= math.log(exps[positive] / sum(exps[b] for b in range(2 * n) if b != a)) / (2 * n)
        uniformity += math.log(sum(exps[b] for b in range(2 * n) if b not in (a, positive))) / (2 * n)
    alignment = -sum(float(np.dot(z1[i], z2[i])) for i in range(n)) / n / temperature
    return {"info_nce": info_nce, "alignment": alignment, "uniformity": uniformity}


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("case", range(5))
def test_official_values_and_gradients(golden, case, x64, rtol):
    numbers = golden("losses")
    z1, z2, temperature = (numbers[f"{case}/{key}"] for key in ("z1", "z2", "temperature"))
    static = float(temperature)
    with jax.enable_x64(x64):
        (info_nce, gradients), alignment, uniformity = jax.jit(
            lambda *z, temperature: (
                jax.value_and_grad(losses.info_nce, (0, 1))(*z, temperature=temperature),
                *(f(*z, temperature=static) for f in TERMS),
            )
        )(z1, z2, temperature=temperature)
    for name, value in (("info_nce", info_nce), ("alignment", alignment), ("uniformity", uniformity)):
        assert value.dtype == (jnp.float64 if x64 else jnp.float32)
        np.testing.assert_allclose(value, numbers[f"{case}/{name}"], rtol=rtol)
    for view, gradient in zip((1, 2), gradients, strict=True):
        assert_close(gradient, numbers[f"{case}/info_nce_grad_z{view}"], rtol)


@pytest.mark.parametrize(("n", "d"), [(2, 3), (8, 5)])
@pytest.mark.parametrize("temperature", [0.1, 1.5])
def test_loops(n, d, temperature):
    z1, z2 = unit_rows(0, n, d), unit_rows(1, n, d)
    with jax.enable_x64(True):
        results = all_losses(z1, z2, temperature)
    for name, expected in loops(z1, z2, temperature).items():
        np.testing.assert_allclose(results[name][0], expected, rtol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(2, 3), (8, 5)])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_collapse(n, d, temperature):
    z = np.tile(unit_rows(2, 1, d), (n, 1))
    with jax.enable_x64(True):
        actual = {name: value for name, (value, _) in all_losses(z, z, temperature).items()}
    np.testing.assert_allclose(actual["info_nce"], math.log(2 * n - 1), rtol=1e-12)
    np.testing.assert_allclose(actual["alignment"], -1 / temperature, rtol=1e-12)
    np.testing.assert_allclose(actual["uniformity"], math.log(2 * n - 2) + 1 / temperature, rtol=1e-12)


def test_orthogonal_inputs_in_closed_form():
    """In float32, where log-sum-exp minus the positive's logit would have lost the loss at temperature 0.05: it is
    3e-8 beside logits of 20."""
    n = 8
    for temperature in (0.25, 0.05):
        actual = all_losses(np.eye(n, dtype=np.float32), np.eye(n, dtype=np.float32), temperature)
        expected = math.log1p((2 * n - 2) * math.exp(-1 / temperature))
        np.testing.assert_allclose(actual["info_nce"][0], expected, rtol=1e-5)
        np.testing.assert_allclose(actual["uniformity"][0], math.log(2 * n - 2), rtol=1e-6)


def test_symmetries():
    z1, z2 = unit_rows(3, 8, 5), unit_rows(4, 8, 5)
    rng = np.random.default_rng(5)
    order, (rotation, _) = rng.permutation(8), np.linalg.qr(rng.standard_normal((5, 5)))
    with jax.enable_x64(True):
        results = all_losses(z1, z2, 0.3)
        for a, b in ((z2, z1), (z1[order], z2[order]), (z1 @ rotation, z2 @ rotation)):
            for name, (value, _) in all_losses(a, b, 0.3).items():
                np.testing.assert_allclose(value, results[name][0], rtol=1e-12)
        for name, (value, _) in all_losses(z1, z2[order], 0.3).items():  # which rows are paired matters
            assert abs(value - results[name][0]) > 1e-3


def test_one_pair_has_nothing_to_contrast():
    z1, z2 = jnp.asarray(unit_rows(6, 1, 4)), jnp.asarray(unit_rows(7, 1, 4))
    value, gradient = jax.jit(jax.value_and_grad(losses.info_nce))(z1, z2, temperature=0.1)
    assert value == 0 and np.all(gradient == 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_finite_at_low_temperature(dtype):
    z1, z2 = jnp.asarray(unit_rows(8, 32, 16), dtype), jnp.asarray(unit_rows(9, 32, 16), dtype)
    same = jnp.broadcast_to(z1[0], z1.shape)  # negatives at cosine 1: exp(100) is past the range of float32
    for views in ((z1, z2), (z1, z1), (z1, -z1), (same, same), (same, -same)):
        for value, gradients in all_losses(*views, 0.01).values():
            assert value.dtype == jnp.float32 and np.isfinite(value)
            assert all(gradient.dtype == dtype and np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_accumulated_in_float32(dtype):
    views = [jnp.asarray(unit_rows(seed, 32, 16), dtype) for seed in (10, 11)]
    halves, floats = all_losses(*views, 0.1), all_losses(*(np.asarray(z, np.float32) for z in views), 0.1)
    for name in LOSSES:
        assert halves[name][0].dtype == jnp.float32
        np.testing.assert_allclose(halves[name][0], floats[name][0], rtol=1e-6)


def test_gradients():
    def weighted_sum(z1, z2, temperature):
        return sum(k * LOSSES[name](z1, z2, temperature=temperature) for k, name in enumerate(LOSSES, start=1))

    with jax.enable_x64(True):
        views = jnp.asarray(unit_rows(12, 5, 4)), jnp.asarray(unit_rows(13, 5, 4))
        check_grads(jax.jit(weighted_sum), (*views, jnp.asarray(0.4)), order=1, modes=["rev"], rtol=1e-6)


@pytest.fixture(scope="module")
def by_rows():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.sharding.NamedSharding(mesh, jax.P("data"))


@pytest.mark.slow
def test_eager_jit_and_eight_devices_agree(by_rows):
    views = [jnp.asarray(unit_rows(seed, 64, 16), jnp.float32) for seed in (14, 15)]
    jitted = all_losses(*views, 0.2)
    on_eight = all_losses(*(jax.device_put(z, by_rows) for z in views), 0.2)
    jax.tree.map(partial(assert_close, rtol=2e-6), on_eight, jitted)
    for name, loss in LOSSES.items():
        assert_close(loss(*views, temperature=0.2), jitted[name][0], rtol=2e-6)
        assert all(gradient.sharding.is_equivalent_to(by_rows, 2) for gradient in on_eight[name][1])


def test_devices_share_the_similarities(by_rows):
    """Each of eight devices holds an eighth of the [2n, 2n] similarities, going forward and back."""
    view = jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=by_rows)
    program = all_losses.lower(view, view, 0.2).compile().as_text()
    assert "f32[2,8,2,64]" in program and "f32[2,64,2,64]" not in program


@pytest.mark.parametrize("name", LOSSES)
def test_matrix_products_are_exact(name):
    views = [jnp.asarray(unit_rows(seed, 6, 4), jnp.float32) for seed in (16, 17)]
    program = str(jax.make_jaxpr(jax.value_and_grad(partial(LOSSES[name], temperature=0.2), (0, 1)))(*views))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")


@pytest.mark.parametrize("name", LOSSES)
def test_errors_name_the_value(name):
    loss, z = LOSSES[name], np.ones((4, 3))
    for temperature in (0, -0.5, float("nan"), np.float32(0), np.array(-1.0)):
        with pytest.raises(ValueError, match=f"temperature must be positive; got {temperature}"):
            loss(z, z, temperature=temperature)
    with pytest.raises(ValueError, match=r"got z1 \(4, 3\) and z2 \(3, 3\)"):
        loss(z, z[:3], temperature=1.0)
    with pytest.raises(ValueError, match=r"got z1 \(2, 4, 3\)"):
        loss(np.ones((2, 4, 3)), np.ones((2, 4, 3)), temperature=1.0)
    with pytest.raises(ValueError, match=r"got z1 \(0, 3\)"):
        loss(z[:0], z[:0], temperature=1.0)


def test_uniformity_needs_negatives():
    with pytest.raises(ValueError, match="n = 1 pair has no negatives"):
        losses.uniformity(np.ones((1, 3)), np.ones((1, 3)))


def test_a_learned_temperature_is_traced():
    z1, z2 = unit_rows(18, 6, 4), unit_rows(19, 6, 4)
    slope = jax.jit(jax.grad(lambda t: losses.alignment(z1, z2, temperature=t)))(0.5)
    np.testing.assert_allclose(slope, 4 * np.mean(np.sum(z1 * z2, axis=1)), rtol=1e-5)


@pytest.fixture
def small_blocks(monkeypatch):
    """A few columns at a time, as for tens of thousands of embeddings."""
    monkeypatch.setattr(contrastive, "_SIMILARITIES_AT_ONCE", 256)
    all_losses.clear_cache()
    yield
    all_losses.clear_cache()


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 13, 27, 2])  # blocks that fit, with padding, and a single one
def test_blocks_of_columns_give_the_undivided_numbers(monkeypatch, small_blocks, n):
    views, temperatures = (unit_rows(20, n, 6), unit_rows(21, n, 6)), (0.05, 0.5)
    with jax.enable_x64(True):
        streamed = [all_losses(*views, temperature) for temperature in temperatures]
        monkeypatch.undo()
        all_losses.clear_cache()
        undivided = [all_losses(*views, temperature) for temperature in temperatures]
    jax.tree.map(partial(assert_close, rtol=1e-12), streamed, undivided)
    for temperature, found in zip(temperatures, streamed, strict=True):
        np.testing.assert_allclose(found["info_nce"][0], loops(*views, temperature)["info_nce"], rtol=1e-12)


def test_blocks_are_finite_at_low_temperature(small_blocks):
    z = jnp.asarray(unit_rows(22, 16, 4), jnp.float32)
    for views in ((z, -z), (z, z), (jnp.broadcast_to(z[0], z.shape), -z)):
        for value, gradients in all_losses(*views, 0.01).values():
            assert np.isfinite(value) and all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_devices_share_the_rows_of_every_block(monkeypatch, small_blocks, by_rows):
    """Eight devices, 64 inputs, 8 blocks: a device holds its 8 rows of a block's 8 columns, going forward and back."""
    monkeypatch.setattr(contrastive, "_SIMILARITIES_AT_ONCE", 2048)
    views = [jax.device_put(jnp.asarray(unit_rows(seed, 64, 16), jnp.float32), by_rows) for seed in (23, 24)]
    program = all_losses.lower(*views, 0.2).compile().as_text()
    assert "f32[2,8,2,8]" in program
    assert "f32[2,64,2,8]" not in program and "f32[2,8,2,64]" not in program
    assert "reduce-scatter" not in program


def test_large_batches_fit_in_a_gibibyte():
    """2n = 32,768, d = 128: the similarities alone would be 4 GiB."""
    view = jax.ShapeDtypeStruct((16384, 128), jnp.float32)
    gradient = jax.jit(jax.value_and_grad(partial(losses.info_nce, temperature=0.5), (0, 1)))
    memory = gradient.lower(view, view).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 2**29


def test_each_device_of_a_shard_map_has_its_own_loss():
    """As whoever writes the exchange between devices by hand calls them: value and gradient are those of its rows."""
    mesh = sharding.make_mesh()
    z1, z2 = (jnp.asarray(unit_rows(seed, 8 * 4, 6), jnp.float32) for seed in (0, 1))

    def both(z1, z2):
        found = all_losses(z1, z2, 0.2)
        return jax.tree.map(lambda x: x[None], found)

    by_rows = jax.sharding.PartitionSpec("data")
    found = jax.jit(jax.shard_map(both, mesh=mesh, in_specs=(by_rows, by_rows), out_specs=by_rows))(z1, z2)
    for device in (0, 7):
        rows = slice(4 * device, 4 * device + 4)
        expected = all_losses(z1[rows], z2[rows], 0.2)
        of_device = jax.tree.map(operator.itemgetter(device), found)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-6), of_device, expected)
