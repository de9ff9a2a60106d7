"""Strength 0 is nothing, each strength does to the points what its name says, and to every cloud the same."""

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.evaluate import strength_shares, strengths
from care_jax.evaluate.cloud_strengths import CLOUD_SWEEPS
from care_jax.evaluate.embed import Embedded
from care_jax.evaluate.strengths import SWEEPS


def _clouds(count: int, points: int = 50, places: int = 60) -> np.ndarray:
    clouds = np.zeros((count, places, 4), np.float32)
    clouds[:, :points, :3] = np.random.default_rng(0).normal(size=(count, points, 3))
    clouds[:, :points, 3] = 1
    return clouds


CLOUDS = _clouds(2)


def seen(name, value, clouds=CLOUDS):
    values = np.broadcast_to(np.float32(value), len(clouds))
    spec = strengths.spec_of(name, float(np.abs(values).max()), size=None)
    return np.asarray(strengths.views(clouds, values, name=name, spec=spec))


@pytest.mark.parametrize("name", ["", *CLOUD_SWEEPS])
def test_strength_0_is_nothing_and_no_point_stays_none(name):
    np.testing.assert_allclose(seen(name, 0.0), CLOUDS, atol=1e-6)
    assert not seen(name, 0.3)[:, 50:].any()


def test_a_third_of_a_turn_about_the_diagonal_takes_x_to_y_to_z():
    turned = seen("rotation", 120.0)
    np.testing.assert_allclose(turned[..., :3], CLOUDS[..., [2, 0, 1]], atol=1e-5)
    np.testing.assert_allclose(seen("rotation", -120.0)[..., :3], CLOUDS[..., [1, 2, 0]], atol=1e-5)
    np.testing.assert_allclose(seen("rotation", 50.0, seen("rotation", 70.0)), turned, atol=1e-5)
    both = seen("rotation", [0.0, 120.0])
    np.testing.assert_allclose(both, np.stack([CLOUDS[0], turned[1]]), atol=1e-5)


def test_less_of_the_size_and_noise_of_the_deviation():
    np.testing.assert_allclose(seen("scaling", 0.4)[..., :3], 0.6 * CLOUDS[..., :3], atol=1e-6)
    many = _clouds(1, 5000, 5000)
    noise = (seen("jitter", 0.4, many) - many)[0, :, :3]
    assert noise.std() == pytest.approx(0.4, rel=0.03) and abs(noise.mean()) < 0.02
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.06
    np.testing.assert_allclose((seen("jitter", 0.1, many) - many)[0, :, :3], noise / 4, atol=1e-5)
    first, second = seen("jitter", 0.1) - CLOUDS  # one augmentation, whatever the cloud
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_the_more_is_left_out_the_fewer_points_stay():
    many = _clouds(2, 5000, 5000)
    stay = {strength: seen("dropping", strength, many)[..., 3] > 0 for strength in (0.1, 0.4, 0.8, 1.0)}
    for strength, points in stay.items():
        assert points.mean() == pytest.approx(1 - strength, abs=0.02)
        assert (points[0] == points[1]).all()
    assert (stay[0.8] <= stay[0.4]).all() and (stay[0.4] <= stay[0.1]).all()
    assert stay[1.0].sum(axis=1).tolist() == [1, 1]
    left = seen("dropping", 0.4, many)
    np.testing.assert_array_equal(left[stay[0.4]], many[stay[0.4]])


@pytest.mark.parametrize("name", CLOUD_SWEEPS)
def test_strengths_are_in_their_range(name):
    sweep = CLOUD_SWEEPS[name]
    assert len(sweep.strengths) >= 4 and all(sweep.low <= value <= sweep.high for value in sweep.strengths)
    assert sweep.composes == (name == "rotation")
    assert max(CLOUD_SWEEPS["rotation"].strengths) == 180


def test_names_of_clouds_are_chosen_and_those_of_images_refused():
    assert strengths.sweeps_of(True) is CLOUD_SWEEPS and strengths.sweeps_of(False) is SWEEPS
    assert list(strengths.chosen([], clouds=True)) == ["rotation", "scaling", "jitter", "dropping"]
    assert strengths.chosen(["rotation"], ["180", "-10"], clouds=True) == {"rotation": (180.0, -10.0)}
    for names, clouds, message in (
        (["hue"], True, "'hue' is one of images; of clouds of points there are rotation, scaling, jitter, dropping$"),
        (["jitter"], False, "'jitter' is one of clouds of points; of images there are hue, .*, blur$"),
        (["jiter"], True, "did you mean jitter\\? There are rotation, scaling, jitter, dropping$"),
    ):
        with pytest.raises(UsageError, match=message):
            strengths.chosen(names, clouds=clouds)
    with pytest.raises(UsageError, match="dropping takes 0 to 1, but 0: share of the points"):
        strengths.chosen(["dropping"], ["1.5"], clouds=True)


def _moments(clouds: np.ndarray) -> np.ndarray:
    """The sum of the points, and its length: turned by a rotation of the first three numbers."""
    total = clouds[..., :3].astype(float).sum(axis=1)
    return np.concatenate([total, np.linalg.norm(total, axis=1, keepdims=True)], axis=1)


@pytest.mark.slow
def test_shares_of_an_encoder_that_turns_with_its_clouds():
    clouds = _clouds(30)

    def embedder(variables, examples):
        assert examples.clouds
        return Embedded(None, _moments(examples.pixels), np.arange(len(examples)))

    found = strength_shares.strength_shares(embedder, {}, clouds, _moments(clouds))
    assert found.keys() == CLOUD_SWEEPS.keys()
    assert list(found["rotation"]) == list(CLOUD_SWEEPS["rotation"].strengths)
    assert all(share.mean == pytest.approx(1.0, abs=1e-6) for share in found["rotation"].values())
    # No rotation makes anything shorter.
    assert max(share.mean for share in found["scaling"].values()) < 1e-6
    figure = strength_shares.picture(found, clouds=True)
    assert [axis.get_title() for axis in figure.axes] == [*CLOUD_SWEEPS]
    assert figure.axes[0].get_xlabel() == "degrees about the axis (1, 1, 1)"
