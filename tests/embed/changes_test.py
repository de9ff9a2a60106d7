"""Changes look as they are called, and leave no query of another kind."""

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.embed import changes
from care_jax.evaluate.thumbnails import thumbnails
from care_jax.metrics.clouds import radius_of_gyration

RNG = np.random.default_rng(0)


def _clouds(count: int = 40) -> np.ndarray:
    """Half of them of fewer points, of different sizes."""
    points = RNG.normal(size=(count, 128, 3)) * RNG.uniform(0.5, 2, (count, 1, 1))
    clouds = np.concatenate([points, np.ones((count, 128, 1))], axis=-1).astype(np.float32)
    clouds[::2, 90:] = 0
    return clouds


def test_images_look_as_they_are_called():
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    assert changes.changed(red, "")[0, 0, 0].tolist() == [200, 0, 0]
    assert changes.changed(red, "hue")[0, 0, 0].tolist() == [0, 200, 0]
    assert len(set(changes.changed(red, "gray")[0, 0, 0].tolist())) == 1
    ring = np.zeros((1, 8, 8, 3), np.uint8)
    ring[:, 2:6, 2:6] = 255
    assert (changes.changed(ring, "crop") == 255).all() and changes.changed(ring, "crop").shape == ring.shape


def test_a_rotation_is_a_quarter_turn_of_the_picture():
    clouds = _clouds(3)
    turned = changes.changed(clouds, "rotation")
    np.testing.assert_allclose(turned, np.stack([-clouds[..., 1], clouds[..., 0], *clouds.T[2:].mT], -1), atol=1e-6)
    before, after = (thumbnails(x, side=32, extent=6.0).astype(float) for x in (clouds, turned))
    assert np.abs(after - np.rot90(before, axes=(1, 2))).mean() < 0.1 * np.abs(after - before).mean()


def test_jitter_is_a_share_of_the_size_and_the_same_every_time():
    clouds = _clouds()
    moved = changes.changed(clouds, "jitter")
    np.testing.assert_array_equal(moved, changes.changed(clouds, "jitter"))
    np.testing.assert_array_equal(moved[..., 3], clouds[..., 3])
    assert not moved[::2, 90:].any()
    is_point = clouds[..., 3] > 0
    noise = (moved - clouds)[..., :3] / radius_of_gyration(clouds[..., :3], is_point)[:, None, None]
    deviations = [one[mask].std() for one, mask in zip(noise, is_point, strict=True)]
    np.testing.assert_allclose(deviations, 0.05, rtol=0.15)
    assert np.abs(np.corrcoef(noise[1, :90].ravel(), noise[3, :90].ravel())[0, 1]) < 0.3  # each its own


def test_the_usual_changes_and_unknown_ones_are_those_of_the_kind():
    assert changes.names(None, clouds=False) == ("hue", "crop")
    assert changes.names(None, clouds=True) == ("rotation", "jitter")
    assert changes.names([], clouds=True) == ()
    assert changes.names(["gray"], clouds=False) == ("gray",)
    with pytest.raises(UsageError, match=r"^--changes=jitter,hue: 'hue' is none of rotation, jitter, the changes of c"):
        changes.names(["jitter", "hue"], clouds=True)
    with pytest.raises(UsageError, match=r"'rotation' is none of hue, crop, gray, the changes of images$"):
        changes.names(["rotation"], clouds=False)
    assert all("\n" in changes.words(name) for name in (*changes.OF_CLOUDS, "hue"))
