"""Orbits of encoders that turn with the hue, and of those that do not care."""

from types import SimpleNamespace

import numpy as np
import pytest

from care_jax import augment
from care_jax.evaluate import orbits


def _images(count: int) -> np.ndarray:
    hues = np.random.default_rng(0).random(count).astype(np.float32)
    red = np.tile(np.asarray([0.8, 0.2, 0.2], np.float32), (count, 4, 4, 1))
    return np.round(np.asarray(augment.color.adjust_hue(red, hues)) * 255).astype(np.uint8)


def _of_hue(variables, examples):
    """(cos hue, sin hue, and what hue does not change), turned into no axis' direction."""
    pixels = examples.pixels[:, 0, 0].astype(np.float64) / 255
    a, b = pixels[:, 0] - pixels[:, 1:].mean(1), np.sqrt(3) / 2 * (pixels[:, 1] - pixels[:, 2])
    length = np.maximum(np.hypot(a, b), 1e-9)
    still = np.full(len(a), 2.0)
    basis, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    return SimpleNamespace(embeddings=(np.stack([a / length, b / length, still, still], 1) @ basis).astype(np.float32))


def _still(variables, examples):
    return SimpleNamespace(embeddings=np.tile(np.asarray([[1.0, 2.0, 0.5]], np.float32), (len(examples), 1)))


def test_an_encoder_of_the_hue_goes_round_a_circle():
    images = _images(60)
    embeddings = _of_hue({}, SimpleNamespace(pixels=images)).embeddings
    chosen = np.asarray([5, 17])
    found = orbits.orbit(_of_hue, {}, images, embeddings, chosen, orbits.turned_hue, turn=1 / 8)
    assert found.coordinates.shape == (2, 24, 2) and found.turn == 1 / 8
    assert np.degrees(found.angle) == pytest.approx(45, abs=3)
    assert found.energy == pytest.approx(1 / 9, abs=0.01)
    np.testing.assert_allclose(np.linalg.norm(found.coordinates, axis=-1), 1, atol=0.03)
    steps = np.unwrap(np.arctan2(*found.coordinates[..., ::-1].transpose(2, 0, 1)))
    assert np.abs(np.diff(steps, axis=1)).max() < np.radians(24)
    assert abs(steps[0, -1] - steps[0, 0]) == pytest.approx(2 * np.pi * 23 / 24, abs=0.1)


def test_one_that_does_not_care_stays():
    images = _images(10)
    embeddings = _still({}, images).embeddings
    found = orbits.orbit(_still, {}, images, embeddings, np.asarray([0]), orbits.turned, turn=1 / 12)
    assert np.ptp(found.coordinates, axis=1).max() < 1e-5
    embeddings[3, 0] = np.nan
    assert orbits.orbit(_still, {}, images, embeddings, np.asarray([0]), orbits.turned, turn=1 / 12) is None


def test_each_image_turns_by_its_own():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[:, :4] = 200
    images[..., 1] //= 2
    quarter = orbits.turned(images, np.asarray([0.25, 0.0], np.float32))
    np.testing.assert_array_equal(quarter[1], images[1])
    np.testing.assert_allclose(quarter[0][1:-1, 1:-1], np.rot90(images[0])[1:-1, 1:-1], atol=1)
    third = orbits.turned_hue(images, np.asarray([1 / 3, 0.0], np.float32))
    np.testing.assert_array_equal(third[1], images[1])
    np.testing.assert_allclose(third[0], np.roll(images[0], 1, axis=-1), atol=1)


def _sum(variables, examples):
    """The sum of a cloud's points, which turns with it."""
    total = examples.pixels[..., :3].astype(np.float64).sum(axis=1)
    return SimpleNamespace(embeddings=total.astype(np.float32))


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 0.6, 0.8)])
def test_clouds_turn_about_an_axis_and_come_round(axis):
    axis = np.asarray(axis)
    clouds = np.zeros((30, 5, 4), np.float32)
    clouds[:, :4, :3] = np.random.default_rng(0).normal(size=(30, 4, 3))
    clouds[:, :4, 3] = 1
    quarter = orbits.turned_about(axis)(clouds, np.full(30, 0.25, np.float32))
    points = clouds[:, :4, :3].astype(np.float64)
    expected = np.cross(axis, points) + (points @ axis)[..., None] * axis
    np.testing.assert_allclose(quarter[:, :4, :3], expected, atol=1e-5)
    assert not quarter[:, 4].any() and (quarter[:, :4, 3] == 1).all()

    embeddings = _sum({}, SimpleNamespace(pixels=clouds)).embeddings
    found = orbits.orbit(
        _sum, {}, clouds, embeddings, np.asarray([3, 9]), orbits.turned_about(axis), turn=1 / 12, steps=100
    )
    assert found.coordinates.shape == (2, 100, 2) and np.degrees(found.angle) == pytest.approx(30, abs=0.1)
    circle = orbits.circle(found.coordinates)
    assert circle.roundness == pytest.approx(1.0, abs=1e-4)
    away = embeddings[[3, 9]] - np.outer(embeddings[[3, 9]] @ axis, axis)
    assert circle.radius == pytest.approx(np.linalg.norm(away, axis=1).mean(), rel=1e-4)


def test_roundness_of_a_circle_a_line_and_noise_are_as_the_report_says():
    turns = 2 * np.pi * np.arange(100) / 100
    once, thrice = (np.stack([np.cos(k * turns), np.sin(k * turns)], axis=-1) for k in (1, 3))
    assert orbits.circle(np.stack([5 + 0.1 * once, 2 * thrice])) == pytest.approx((1.0, 1.05))
    assert orbits.circle(once[None] * [1, 0]).roundness == pytest.approx(0.52, abs=0.005)
    noise = np.random.default_rng(0).normal(size=(200, 100, 2))
    assert orbits.circle(noise).roundness == pytest.approx(1 - np.sqrt(4 / np.pi - 1), abs=0.01)
    assert orbits.circle(1 + 1e-7 * noise) is None and orbits.circle(np.zeros((1, 100, 2))) is None
