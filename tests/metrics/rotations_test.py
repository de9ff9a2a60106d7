"""Rotations and relative equivariance: SciPy, loops in float64, rotations planted on purpose, precision, devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

from care_jax import metrics
from care_jax.metrics import rotations
from tests.metrics.planted import orthogonal, unit_rows

jitted_gamma = jax.jit(metrics.relative_equivariance)
jitted_median = jax.jit(metrics.relative_equivariance_median)
jitted_wahba = jax.jit(metrics.wahba, static_argnames="special")


def wahba64(f, fa, special=True):
    with jax.enable_x64(True):
        return [np.asarray(x) for x in jitted_wahba(f, fa, special=special)]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("d", [2, 3, 8])
def test_wahba_recovers_a_planted_rotation(d, special):
    f, planted = unit_rows(0, 30, d), orthogonal(1, d, determinant=1)
    rotation, error = wahba64(f, f @ planted.T, special)
    np.testing.assert_allclose(rotation, planted, atol=1e-12)
    assert error < 1e-12


@pytest.mark.parametrize("d", [2, 3, 8])
def test_wahba_tells_reflections_from_rotations(d):
    f, planted = unit_rows(2, 30, d), orthogonal(3, d, determinant=-1)
    fa = f @ planted.T
    (reflection, no_error), (rotation, error) = wahba64(f, fa, special=False), wahba64(f, fa)
    np.testing.assert_allclose([*reflection.flat, no_error], [*planted.flat, 0], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(d), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(f @ rotation.T - fa), error, rtol=1e-12)
    # Restoring the handedness costs the direction in which f has least variance, there and back.
    np.testing.assert_allclose(error, 2 * np.linalg.svd(f, compute_uv=False)[-1], rtol=1e-10)


@pytest.mark.parametrize("determinant", [1, -1])
def test_wahba_against_scipy(determinant):
    f, noise = unit_rows(4, 30, 3), 0.3 * unit_rows(5, 30, 3)
    fa = f @ orthogonal(6, 3, determinant).T + noise
    (rotation, error), (orthogonal_map, orthogonal_error) = wahba64(f, fa), wahba64(f, fa, special=False)
    expected, expected_error = Rotation.align_vectors(fa, f)
    np.testing.assert_allclose(rotation, expected.as_matrix(), atol=1e-10)
    np.testing.assert_allclose(error, expected_error, rtol=1e-10)
    procrustes, _ = scipy.linalg.orthogonal_procrustes(f, fa)
    np.testing.assert_allclose(orthogonal_map, procrustes.T, atol=1e-10)
    np.testing.assert_allclose(orthogonal_error, np.linalg.norm(f @ procrustes - fa), rtol=1e-10)
    assert (error > orthogonal_error + 0.1) == (determinant == -1)


def test_wahba_with_fewer_rows_than_dimensions():
    f, fa = unit_rows(7, 3, 8), unit_rows(7, 3, 8) @ orthogonal(8, 8, determinant=-1).T
    rotation, error = wahba64(f, fa)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, rtol=1e-12)
    assert error < 1e-12


def test_wahba_in_single_and_half_precision():
    f, planted = unit_rows(9, 200, 16), orthogonal(10, 16, determinant=1)
    rotation, error = jitted_wahba(f, f @ planted.T)
    assert rotation.dtype == error.dtype == jnp.float32
    np.testing.assert_allclose(rotation, planted, atol=1e-5)
    assert error < 1e-4
    rotation, error = jitted_wahba(jnp.asarray(f, jnp.bfloat16), jnp.asarray(f @ planted.T, jnp.bfloat16))
    assert rotation.dtype == error.dtype == jnp.float32
    np.testing.assert_allclose(rotation, planted, atol=5e-3)


def error_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    f, fa = unit_rows(50, 9, 4), unit_rows(51, 9, 4)
    line = np.outer(np.arange(1.0, 10.0), unit_rows(52, 1, 4))
    return {
        "ordinary": (f, fa),
        "equal singular values": (np.eye(4), 2 * orthogonal(53, 4, 1)),
        "fewer rows than dimensions": (f[:2], fa[:2]),
        "zeros": (0 * f, 0 * fa),
        "zeros before": (0 * f, fa),
        "no error": (f, f),
        "rank 1": (line, -line),
    }


@pytest.mark.slow
@pytest.mark.parametrize("special", [True, False])
def test_the_gradient_of_wahbas_error_is_that_with_the_rotation_held_fixed(special):
    """Against differences where it is smooth; finite wherever it is not: nothing goes through the SVD."""

    @partial(jax.value_and_grad, argnums=(0, 1))
    def error_and_gradients(f, fa):
        return jitted_wahba(f, fa, special=special)[1]

    with jax.enable_x64(True):
        for name, pair in error_pairs().items():
            _, gradients = error_and_gradients(*pair)
            assert np.isfinite(gradients).all(), name
            if name in ("ordinary", "equal singular values", "fewer rows than dimensions"):
                steps = [1e-6 * np.random.default_rng(54 + i).standard_normal(x.shape) for i, x in enumerate(pair)]
                ends = [
                    jitted_wahba(*(x + sign * step for x, step in zip(pair, steps, strict=True)), special=special)[1]
                    for sign in (1, -1)
                ]
                expected = sum(float(np.sum(g * step)) for g, step in zip(gradients, steps, strict=True))
                np.testing.assert_allclose((ends[0] - ends[1]) / 2, expected, rtol=1e-6, err_msg=name)


def test_no_gradient_pulls_at_no_error():
    f, eye = unit_rows(55, 5, 3), np.eye(3)
    for measure in (
        lambda f: metrics.wahba(f, 0 * f)[1],
        lambda fa: metrics.composition_error(eye, eye, f, f + 0 * fa),
        lambda fa: metrics.relative_equivariance(f, f + 0 * fa),
    ):
        np.testing.assert_array_equal(jax.jit(jax.grad(measure))(0 * f), 0 * f)


def composed_case(noise=0.0):
    f, first, second = unit_rows(14, 25, 5), orthogonal(15, 5, 1), orthogonal(16, 5, 1)
    return first, second, f, f @ (second @ first).T + noise * unit_rows(17, 25, 5)


def test_composition_in_the_right_order():
    first, second, f, f_composed = composed_case()
    with jax.enable_x64(True):
        assert metrics.composition_error(first, second, f, f_composed) < 1e-13
        assert metrics.composition_error(second, first, f, f_composed) > 0.1
        np.testing.assert_allclose(metrics.composition_error(first, second, f, -f_composed), 2, rtol=1e-12)


def test_composition_is_the_relative_miss_of_an_embedding():
    first, second, f, f_composed = composed_case(noise=0.2)
    f_composed *= 3
    miss = [np.sum((second @ first @ x - y) ** 2) for x, y in zip(f, f_composed, strict=True)]
    size = [np.sum(y**2) for y in f_composed]
    with jax.enable_x64(True):
        actual = metrics.composition_error(first, second, f, f_composed)
        twice = metrics.composition_error(first, second, np.tile(f, (2, 1)), np.tile(f_composed, (2, 1)))
    np.testing.assert_allclose([actual, twice], np.sqrt(np.mean(miss) / np.mean(size)), rtol=1e-12)


def ratio_loops(f, fa):
    def squared(x):
        return float(x @ x)

    n = len(f)
    ratios = np.full((n, n), np.nan)
    for i in range(n):
        for j in range(n):
            if i != j:
                change = squared(fa[j] - fa[i]) - squared(f[j] - f[i])
                moved = squared(fa[j] - f[j]) + squared(fa[i] - f[i])
                ratios[i, j] = (change / moved) ** 2 if moved else 0.0
    return ratios


@pytest.mark.parametrize("rows_at_a_time", [1, 4, 13, 100])  # 13 rows: single, ragged, one block, fewer than a block
def test_relative_equivariance_loops(monkeypatch, rows_at_a_time):
    monkeypatch.setattr(rotations, "_PAIR_ROWS", rows_at_a_time)
    f, fa = unit_rows(18, 13, 5), 1.5 * unit_rows(19, 13, 5)
    expected = ratio_loops(f, fa)
    with jax.enable_x64(True):
        np.testing.assert_allclose(metrics.relative_equivariance(f, fa), np.nanmean(expected), rtol=1e-12)
        np.testing.assert_allclose(metrics.relative_equivariance_ratios(f, fa), expected, rtol=1e-10)
        np.testing.assert_allclose(metrics.relative_equivariance_median(f, fa), np.nanmedian(expected), rtol=1e-10)


@pytest.mark.parametrize("determinant", [1, -1])
def test_relative_equivariance_is_zero_under_isometries(determinant):
    f = unit_rows(20, 300, 8)  # more than one block of rows
    fa = f @ orthogonal(21, 8, determinant).T + 0.5
    with jax.enable_x64(True):
        assert jitted_gamma(f, fa) < 1e-28
        assert jitted_gamma(f, unit_rows(22, 300, 8)) > 0.05
    assert jitted_gamma(f, fa) < 1e-11  # float32


def test_unmoved_embeddings_count_zero():
    f, fa = unit_rows(23, 13, 5), unit_rows(24, 13, 5)
    assert jitted_gamma(f, f) == jitted_median(f, f) == 0
    fa[:9] = f[:9]
    expected = ratio_loops(f, fa)
    assert np.nanmedian(expected) != np.nanmean(expected) > 0.1
    np.testing.assert_allclose(jitted_gamma(f, fa), np.nanmean(expected), rtol=1e-5)
    np.testing.assert_allclose(jitted_median(f, fa), np.nanmedian(expected), rtol=1e-5)


def test_one_hardly_moved_pair_rules_the_mean_but_not_the_median():
    f, fa = unit_rows(25, 40, 5), unit_rows(26, 40, 5)
    settled = jitted_median(f, fa)
    fa[:2] = f[:2] * (1 + 1e-4)
    assert jitted_gamma(f, fa) > 1e4
    np.testing.assert_allclose(jitted_median(f, fa), settled, rtol=0.3)


def test_broken_embeddings_show():
    f, fa = unit_rows(27, 13, 5), unit_rows(28, 13, 5)
    fa[3, 2] = np.nan
    assert np.isnan(jitted_gamma(f, fa)) and np.isnan(jitted_median(f, fa))


def test_small_steps_keep_their_digits_in_float32():
    f = unit_rows(29, 40, 8).astype(np.float32)
    for step in (1e-2, 1e-4):
        fa = (f @ orthogonal(30, 8, 1).T @ np.diag(1 + step * np.arange(8)) @ orthogonal(30, 8, 1)).astype(np.float32)
        expected = np.nanmean(ratio_loops(f.astype(np.float64), fa.astype(np.float64)))
        np.testing.assert_allclose(jitted_gamma(f, fa), expected, rtol=1e-5)


def test_memory_of_ten_thousand_embeddings_is_bounded():
    f = jax.ShapeDtypeStruct((10_000, 128), jnp.float32)
    compiled = jitted_gamma.lower(f, f).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 100e6  # [n, n] alone would be 400 MB


def test_matrix_products_are_exact():
    def everything(f, fa):
        rotation, error = metrics.wahba(f, fa)
        return error, metrics.composition_error(rotation, rotation, f, fa), metrics.relative_equivariance(f, fa)

    program = str(jax.make_jaxpr(everything)(np.ones((6, 3)), np.ones((6, 3))))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") >= 7


def test_eight_devices_agree():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    arrays = [unit_rows(seed, 40, 5).astype(np.float32) for seed in (31, 32)]
    on_eight = jax.device_put(arrays, rows)
    np.testing.assert_allclose(jitted_gamma(*on_eight), jitted_gamma(*arrays), rtol=1e-5)
    np.testing.assert_allclose(jitted_wahba(*on_eight)[1], jitted_wahba(*arrays)[1], rtol=1e-5)


def test_errors_name_the_function_and_the_value():
    f, eye = np.ones((4, 3)), np.eye(3)
    for call, message in [
        (lambda: metrics.wahba(f, f[:3]), r"^wahba: .* got f \(4, 3\) and fa \(3, 3\)"),
        (lambda: metrics.wahba(f[:0], f[:0]), r"got f \(0, 3\)"),
        (lambda: metrics.relative_equivariance(f, f[:, :2]), r"^relative_equivariance: .* f \(4, 3\) and fa \(4, 2\)"),
        (lambda: metrics.relative_equivariance(f[:1], f[:1]), "relative_equivariance: .* got 1"),
        (lambda: metrics.relative_equivariance_median(f[:1], f[:1]), "^relative_equivariance_median: .* got 1"),
        (lambda: metrics.composition_error(eye, eye, f, f[0]), r"^composition_error: .* and f_composed \(3,\)"),
        (lambda: metrics.composition_error(eye, np.eye(4), f, f), r"rotation_second must be .*\(4, 4\)"),
        (lambda: metrics.composition_error(np.ones(3), eye, f, f), r"rotation_first must be .*\(3,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
