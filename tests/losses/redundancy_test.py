"""Barlow Twins and VICReg: loops in float64, closed forms, gradients, precision, devices."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from care_jax import losses

LOSSES = {
    "barlow_twins": losses.barlow_twins,
    "invariance": losses.invariance,
    "variance": losses.variance,
    "covariance": losses.covariance,
    "vicreg": losses.vicreg,
}


@jax.jit
def all_losses(z1, z2):
    """Value, and gradients by both views, of every loss: one compilation a shape."""
    return {name: jax.value_and_grad(loss, (0, 1))(z1, z2) for name, loss in LOSSES.items()}


def values(z1, z2):
    return {name: np.asarray(value) for name, (value, _) in all_losses(z1, z2).items()}


def views(n: int = 8, d: int = 4) -> list[np.ndarray]:
    """Dimensions of different means and spreads on both sides of VICReg's target, correlated with one another."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((d, d)) * np.linspace(0.1, 1.5, d)
    z1 = rng.standard_normal((n, d)) @ mixing + rng.standard_normal(d)
    return [z1, 0.8 * z1 + 0.5 * rng.standard_normal((n, d))]


def loops(z1, z2):
    """Every loss as its definition reads, in Python floats."""
    n, d = z1.shape

    def column(z, i):
        return [float(row[i]) for row in z]

    def mean(x):
        return sum(x) / n

    def covariance(x, y, divisor):
        return sum((a - mean(x)) * (b - mean(y)) for a, b in zip(x, y, strict=True)) / divisor

    barlow = variance = redundancy = 0.0
    for i in range(d):
        for z in (z1, z2):
            deviation = math.sqrt(covariance(column(z, i), column(z, i), n - 1) + 1e-4)
            variance += max(0.0, 1.0 - deviation) / d / 2
        for j in range(d):
            x, y = column(z1, i), column(z2, j)
            scale = math.sqrt((covariance(x, x, n) + 1e-5) * (covariance(y, y, n) + 1e-5))
            correlation = covariance(x, y, n) / scale
            barlow += (1 - correlation) ** 2 if i == j else 0.0051 * correlation**2
            if i != j:
                redundancy += sum(covariance(column(z, i), column(z, j), n - 1) ** 2 for z in (z1, z2)) / d
    invariance = sum((a - b) ** 2 for a, b in zip(z1.flat, z2.flat, strict=True)) / (n * d)
    vicreg = 25 * invariance + 25 * variance + redundancy
    return dict(zip(LOSSES, (barlow, invariance, variance, redundancy, vicreg), strict=True))


def test_loops():
    expected = loops(*views())
    assert all(value > 0.01 for value in expected.values())
    assert 0.1 < expected["variance"] < 0.9  # some dimensions are below the target, some above
    with jax.enable_x64(True):
        doubles = values(*views())
    singles = values(*views())
    for name, value in expected.items():
        assert doubles[name].dtype == jnp.float64 and singles[name].dtype == jnp.float32
        np.testing.assert_allclose(doubles[name], value, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(singles[name], value, rtol=1e-5, err_msg=name)


def test_gradients():
    weights = dict(zip(LOSSES, range(1, 6), strict=True))

    @jax.jit
    def weighted_sum(z1, z2):
        return sum(weight * LOSSES[name](z1, z2) for name, weight in weights.items())

    with jax.enable_x64(True):
        z1, z2 = map(jnp.asarray, views())
        check_grads(weighted_sum, (z1, z2), order=1, modes=["rev"], rtol=1e-6)
        # Each on its own: what they add up to must be what each of them says.
        step = 1e-6 * np.random.default_rng(1).standard_normal((2, *z1.shape))
        up, down = values(z1 + step[0], z2 + step[1]), values(z1 - step[0], z2 - step[1])
        for name, (_, gradients) in all_losses(z1, z2).items():
            along = sum(float(np.sum(s * g)) for s, g in zip(step, gradients, strict=True))
            np.testing.assert_allclose(along, (up[name] - down[name]) / 2, rtol=1e-6, err_msg=name)


def test_the_weights_and_options():
    z1, z2 = views()
    with jax.enable_x64(True):
        one = values(z1, z2)
        terms = [one[name] for name in ("invariance", "variance", "covariance")]
        weighted = jax.jit(losses.vicreg)(z1, z2, invariance_weight=2.0, variance_weight=3.0, covariance_weight=5.0)
        np.testing.assert_allclose(weighted, np.dot(terms, [2.0, 3.0, 5.0]), rtol=1e-12)
        barlow_twins = jax.jit(losses.barlow_twins)
        diagonal, doubled = (float(barlow_twins(z1, z2, off_diagonal_weight=w)) for w in (0.0, 0.0102))
        np.testing.assert_allclose(doubled - diagonal, 2 * (one["barlow_twins"] - diagonal), rtol=1e-12)
        deviation = np.sqrt(np.stack([np.var(z, axis=0, ddof=1) for z in (z1, z2)]) + 0.5)
        expected = np.mean(np.maximum(2.0 - deviation, 0))
        np.testing.assert_allclose(jax.jit(losses.variance)(z1, z2, target=2.0, epsilon=0.5), expected, rtol=1e-12)


def test_closed_forms():
    """A factorial design: uncorrelated dimensions, of variance 1 (over n)."""
    z = np.array([[a, b, c, a * b * c] for a in (-1.0, 1) for b in (-1, 1) for c in (-1, 1)])
    with jax.enable_x64(True):
        same, opposite = values(z, z), values(z, -z)
        # Moving or stretching a view does not matter to Barlow Twins, but for its epsilon.
        moved = values(100 * z + [1, 20, -3, 4], 1000 * z)
    np.testing.assert_allclose(same["barlow_twins"], 4 * (1 - 1 / (1 + 1e-5)) ** 2, rtol=1e-6)
    np.testing.assert_allclose(opposite["barlow_twins"], 4 * (1 + 1 / (1 + 1e-5)) ** 2, rtol=1e-12)
    assert moved["barlow_twins"] < 1e-17
    assert same["invariance"] == same["variance"] == same["covariance"] == same["vicreg"] == 0
    np.testing.assert_allclose(opposite["vicreg"], 25 * 4, rtol=1e-12)


def test_symmetries():
    z1, z2 = views()
    order, columns = np.random.default_rng(2).permutation(8), [2, 0, 3, 1]
    with jax.enable_x64(True):
        results = values(z1, z2)
        for a, b in ((z2, z1), (z1[order], z2[order]), (z1[:, columns], z2[:, columns])):
            for name, value in values(a, b).items():
                np.testing.assert_allclose(value, results[name], rtol=1e-11, err_msg=name)
        shuffled = values(z1, z2[order])
    for name in ("barlow_twins", "invariance", "vicreg"):  # which rows are paired matters
        assert abs(shuffled[name] / results[name] - 1) > 1e-2
    for name in ("variance", "covariance"):  # each view on its own
        np.testing.assert_allclose(shuffled[name], results[name], rtol=1e-11)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_collapse_is_finite(dtype):
    one = jnp.ones((8, 4), dtype)
    for name, (value, gradients) in all_losses(one, -one).items():
        assert value.dtype == jnp.float32 and np.isfinite(value), name
        assert all(gradient.dtype == dtype and np.all(np.isfinite(gradient)) for gradient in gradients), name
    np.testing.assert_allclose(all_losses(one, one)["variance"][0], 1 - 1e-2, rtol=1e-6)
    np.testing.assert_allclose(all_losses(one, one)["barlow_twins"][0], 4)


@pytest.mark.parametrize("scale", [1e20, 1e30])
@pytest.mark.parametrize("which", [0, 1])
def test_a_variance_that_overflows_shows_in_barlow_twins(scale, which):
    """Its inverse is 0: as a number, d without a gradient would pass for a loss."""
    both = [np.float32(z) for z in views()]
    both[which][:, 2] *= np.float32(scale)  # one dimension of one view is enough
    value, gradients = all_losses(*both)["barlow_twins"]
    assert np.isnan(value) and np.isnan(gradients[which]).any()


def test_half_precision_is_accumulated_in_float32():
    halves = [jnp.asarray(z, jnp.bfloat16) for z in views()]
    expected = loops(*(np.asarray(z, np.float64) for z in halves))
    for name, value in values(*halves).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)


def test_eager_jit_and_eight_devices_agree():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    by_rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    single = [jnp.asarray(z, jnp.float32) for z in views()]
    jitted = all_losses(*single)
    for name in ("barlow_twins", "vicreg"):  # the latter is the others
        np.testing.assert_allclose(LOSSES[name](*single), jitted[name][0], rtol=2e-6, err_msg=name)
        on_eight = jax.jit(jax.value_and_grad(LOSSES[name], (0, 1)))(*(jax.device_put(z, by_rows) for z in single))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), on_eight, jitted[name])
        assert all(gradient.sharding.is_equivalent_to(by_rows, 2) for gradient in on_eight[1])


def test_matrix_products_are_exact():
    program = str(jax.make_jaxpr(all_losses)(*views()))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 0


@pytest.mark.parametrize("name", LOSSES)
def test_errors_name_the_value(name):
    loss, z = LOSSES[name], np.ones((4, 3))
    with pytest.raises(ValueError, match=r"got z1 \(4, 3\) and z2 \(3, 3\)"):
        loss(z, z[:3])
    with pytest.raises(ValueError, match=r"got z1 \(4,\) and z2 \(4,\)"):
        loss(z[:, 0], z[:, 0])
    with pytest.raises(ValueError, match=r"got z1 \(0, 3\)"):
        loss(z[:0], z[:0])
    with pytest.raises(ValueError, match="at least 2 rows; got n = 1"):
        loss(z[:1], z[:1])
