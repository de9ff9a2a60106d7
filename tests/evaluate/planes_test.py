"""Planes of known rotations, and shares of motions whose rotation is known."""

import importlib.machinery
import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest

from care_jax import metrics
from care_jax.evaluate import planes


def _orthogonal(size: int, seed: int = 0) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    return q


def _turn(angles, size: int) -> np.ndarray:
    matrix = np.eye(size)
    for i, angle in enumerate(angles):
        here = slice(2 * i, 2 * i + 2)
        matrix[here, here] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


@pytest.mark.parametrize(
    ("angles", "size"),
    [((2.0, 1.0, 0.3), 6), ((0.4,), 3), ((1.0, 1.0, 0.2), 7), ((np.pi, np.pi, 0.5), 6), ((0.0, 0.0), 4), ((), 1)],
)
def test_the_planes_of_a_known_rotation(angles, size):
    """Also of equal angles, half turns, what stays as it is, and odd dimensions."""
    q = _orthogonal(size)
    rotation = q @ _turn(angles, size) @ q.T
    found = planes.planes(rotation)
    expected = sorted([*angles, *[0.0] * (size // 2 - len(angles))], reverse=True)
    np.testing.assert_allclose(found.angles, expected, atol=1e-6)
    assert found.bases.shape == (size // 2, size, 2)
    together = np.concatenate(list(found.bases), axis=1) if size > 1 else np.zeros((1, 0))
    np.testing.assert_allclose(together.T @ together, np.eye(together.shape[1]), atol=1e-9)
    for angle, basis in zip(found.angles, found.bases, strict=True):
        np.testing.assert_allclose(basis.T @ rotation @ basis, _turn([angle], 2), atol=1e-6)


def test_the_plane_that_carries_the_motion_is_not_that_of_an_empty_direction():
    points = np.zeros((50, 6))
    points[:, :4] = np.random.default_rng(1).normal(size=(50, 4))
    points[:, :2] *= 3
    found = planes.planes(_turn([0.1, 1.0, 3.0], 6))
    assert found.angles[0] == pytest.approx(3.0)
    energies = planes.energies(points, found.bases)
    assert energies[0] == pytest.approx(0.0) and energies.sum() == pytest.approx(1.0)
    assert found.angles[planes.most_moving(found, points)] == pytest.approx(1.0)


def test_principal_plane():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(300, 5)) * [0.1, 3.0, 0.1, 1.0, 0.1] @ _orthogonal(5).T + 7.0
    coordinates, shares = planes.principal_plane(points)
    centred = points - points.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(coordinates), np.abs(u * s)[:, :2], atol=1e-8)
    np.testing.assert_allclose(shares, s[:2] ** 2 / np.sum(s**2))
    wide = np.zeros((60, 1200))
    wide[:, :5] = points[:60]
    narrow = planes.principal_plane(points[:60])
    for ours, theirs in zip(planes.principal_plane(wide), narrow, strict=True):
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-6)
    for few in (np.ones((3, 4)), np.ones((1, 4)), np.arange(3.0)[:, None]):
        coordinates, shares = planes.principal_plane(few)
        assert coordinates.shape == (len(few), 2) and np.isfinite(coordinates).all() and shares.shape == (2,)


def test_a_rotation_explains_all_on_held_out_points_and_noise_nothing():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(200, 8)).astype(np.float32)
    turned = points @ (_orthogonal(8) @ _turn([1.0, 0.5], 8) @ _orthogonal(8).T).T.astype(np.float32)
    fit, test = planes.halves(200)
    assert planes.share_explained(points[test], turned[test], planes.fitted(points[fit], turned[fit])) > 1 - 1e-5
    other = rng.normal(size=(200, 8)).astype(np.float32)
    rotation = planes.fitted(points[fit], other[fit])
    same = planes.share_explained(points[fit], other[fit], rotation)
    assert same > 0.05 and abs(planes.share_explained(points[test], other[test], rotation)) < 0.1
    left = sum(np.sum((rotation @ a - b) ** 2) for a, b in zip(points[fit], other[fit], strict=True))
    moved = sum(np.sum((a - b) ** 2) for a, b in zip(points[fit], other[fit], strict=True))
    assert same == pytest.approx(1 - left / moved)
    assert np.isnan(planes.share_explained(points, points, rotation))


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_rotation_is_that_of_the_metric(mirrored):
    """Also where a reflection would fit better."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(40, 5))
    other = points @ _orthogonal(5).T + 0.1 * rng.normal(size=(40, 5))
    other[:, 0] *= -1 if mirrored else 1
    rotation = planes.fitted(points, other)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation, metrics.wahba(points, other)[0], atol=1e-5)


class _Umap:
    """Stands in for UMAP where it is not installed: the first two coordinates."""

    def __init__(self, **settings):
        assert settings == {"n_neighbors": 15, "metric": "cosine", "random_state": 0, "n_jobs": 1}

    def fit_transform(self, points):
        assert points.dtype == np.float32
        return points[:, :2]


def test_the_plane_of_neighbours_is_there_where_umap_is_installed(monkeypatch):
    points = np.random.default_rng(0).normal(size=(16, 3))
    with monkeypatch.context() as patched:
        patched.setattr(planes, "find_spec", lambda name: None)
        assert planes.neighbour_plane(points) is None
    module = types.ModuleType("umap")
    module.UMAP = _Umap
    module.__spec__ = importlib.machinery.ModuleSpec("umap", None)
    monkeypatch.setitem(sys.modules, "umap", module)
    np.testing.assert_array_equal(planes.neighbour_plane(points), points[:, :2].astype(np.float32))
    assert planes.neighbour_plane(points[:15]) is None and planes.neighbour_plane(np.ones((20, 3))) is None


@pytest.mark.slow
@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_keeps_apart_what_lies_apart():
    rng = np.random.default_rng(0)
    middles = np.repeat(np.eye(8)[:2], 40, axis=0)
    points = middles + 0.1 * rng.normal(size=middles.shape)
    found = planes.neighbour_plane(points)
    first, second = found[:40], found[40:]
    spread = max(np.linalg.norm(part - part.mean(0), axis=1).max() for part in (first, second))
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > 2 * spread
    np.testing.assert_array_equal(found, planes.neighbour_plane(points))
