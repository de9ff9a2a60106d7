"""Radius of gyration and first principal component: loops, shapes that are known, rotations, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.metrics.clouds import first_principal_component, radius_of_gyration
from tests.metrics.planted import orthogonal

MEASURES = (radius_of_gyration, first_principal_component)


def clouds(seed: int = 0, n: int = 20, length: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Of 5 to `length` points, longer one way than the other; NaN behind the mask."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n, length, 3)) * [3.0, 2.0, 1.0] + generator.normal(size=(n, 1, 3))
    mask = np.arange(length) < generator.integers(5, length + 1, size=n)[:, None]
    return np.where(mask[:, :, None], points, np.nan), mask


def test_loops_say_the_same():
    points, mask = clouds()
    radii, directions = radius_of_gyration(points, mask), first_principal_component(points, mask)
    for cloud, kept, radius, direction in zip(points, mask, radii, directions, strict=True):
        rows = [row for row, keep in zip(cloud, kept, strict=True) if keep]
        mean = sum(rows) / len(rows)
        assert radius == pytest.approx(np.sqrt(sum(np.sum((row - mean) ** 2) for row in rows) / len(rows)), rel=1e-12)
        _, _, right = np.linalg.svd(np.array(rows) - mean)
        assert abs(direction @ right[0]) == pytest.approx(1.0, rel=1e-12)


def test_a_dumbbell():
    points = np.array([[[0.0, 0, -2], [0, 0, 2], [9, 9, 9]]])
    mask = np.array([[True, True, False]])
    assert radius_of_gyration(points, mask) == pytest.approx([2.0])
    np.testing.assert_allclose(np.abs(first_principal_component(points, mask)), [[0, 0, 1]], atol=1e-15)


@pytest.mark.parametrize("sign", [1, -1])  # rotations and reflections
def test_they_turn_with_the_cloud(sign):
    points, mask = clouds(1)
    turn = orthogonal(2, 3, sign)
    assert np.linalg.det(turn) == pytest.approx(sign)
    moved = points @ turn.T + [5.0, -7.0, 11.0]
    np.testing.assert_allclose(radius_of_gyration(moved, mask), radius_of_gyration(points, mask), rtol=1e-12)
    before, after = first_principal_component(points, mask), first_principal_component(moved, mask)
    np.testing.assert_allclose(np.abs(np.sum(after * (before @ turn.T), axis=1)), 1.0, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, rtol=1e-12)


def test_sizes_are_in_units_of_the_points():
    points, mask = clouds(2)
    np.testing.assert_allclose(radius_of_gyration(3 * points, mask), 3 * radius_of_gyration(points, mask), rtol=1e-12)
    lines = first_principal_component(3 * points, mask) * first_principal_component(points, mask)
    np.testing.assert_allclose(np.abs(lines.sum(axis=1)), 1.0, rtol=1e-12)


def test_without_a_first_direction_there_is_none():
    cross = np.concatenate([np.eye(3), -np.eye(3)])[None]
    one = np.ones((1, 6, 3))
    for points in (cross, one):
        assert np.isnan(first_principal_component(points, np.ones((1, 6), bool))).all()
    assert radius_of_gyration(one, np.ones((1, 6), bool)) == [0.0]
    assert radius_of_gyration(cross, np.ones((1, 6), bool)) == pytest.approx([1.0])


@pytest.mark.parametrize("measure", MEASURES)
def test_arrays_of_jax_are_those_of_numpy(measure):
    points, mask = clouds(3)
    points = jnp.asarray(points, jnp.bfloat16)  # which NumPy takes for no number
    expected = measure(np.asarray(points, np.float64), mask)
    np.testing.assert_array_equal(measure(points, jnp.asarray(mask)), expected)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_refused(measure):
    points, mask = clouds(3)
    for wrong in (points[0], points[..., :2], points.astype(str)):
        with pytest.raises(ValueError, match=rf"{measure.__name__}: points must be numbers \[n, L, 3\]; got"):
            measure(wrong, mask)
    for wrong in (mask[:, 1:], mask.astype(int), mask[0]):
        with pytest.raises(ValueError, match=rf"{measure.__name__}: mask must be bool \[20, 30\]; got"):
            measure(points, wrong)
    mask[4] = False
    with pytest.raises(ValueError, match="mask leaves cloud 4 without a point"):
        measure(points, mask)
    mask[4] = True
    with pytest.raises(ValueError, match="points are not finite, first in cloud 4"):
        measure(np.where(np.arange(20)[:, None, None] == 4, np.inf, np.nan_to_num(points)), mask)
