"""Lines from linear features: ridge as others have it, lines recovered whatever their signs, angles that are known."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from care_jax.metrics.directions import direction_error, predicted_axes, predicted_directions, ridge
from tests.metrics.planted import orthogonal

RNG = np.random.default_rng(0)


def lines(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors, uniform on the sphere."""
    found = np.random.default_rng(seed).normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def signs(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(count, 1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ridge_is_that_of_standardised_columns(dtype):
    inputs = (RNG.normal(size=(40, 6)) * [1, 20, 0.1, 3, 1, 1] + [0, 5, -3, 100, 0, 0]).astype(dtype)
    targets, others = RNG.normal(loc=[3.0, -7.0], size=(40, 2)), RNG.normal(size=(9, 6)).astype(dtype)
    scaler = StandardScaler().fit(inputs.astype(np.float64))
    model = Ridge(alpha=1.0).fit(scaler.transform(inputs.astype(np.float64)), targets)
    found = ridge(inputs, targets, others)
    np.testing.assert_allclose(found, model.predict(scaler.transform(others.astype(np.float64))), rtol=1e-9, atol=1e-9)
    assert found.dtype == np.float64


def test_ridge_by_its_normal_equations():
    """The penalty as rows more of a least-squares problem."""
    inputs, targets = RNG.normal(size=(30, 5)), RNG.normal(size=(30, 3))
    x, y = (inputs - inputs.mean(0)) / inputs.std(0), targets - targets.mean(0)
    weights = np.linalg.lstsq(np.vstack([x, np.eye(5)]), np.vstack([y, np.zeros((5, 3))]), rcond=None)[0]
    np.testing.assert_allclose(ridge(inputs, targets, inputs), x @ weights + targets.mean(0), rtol=1e-10, atol=1e-12)


def test_ridge_of_what_does_not_vary_is_the_mean():
    targets = RNG.normal(size=(20, 3))
    found = ridge(np.full((20, 4), 7.0), targets, np.full((5, 4), 7.0))
    np.testing.assert_allclose(found, np.tile(targets.mean(0), (5, 1)), rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_directions_of_linear_features_whatever_the_signs_given(seed):
    """Features are linear in the direction with its own sign, of which the targets have forgotten all."""
    train, test = lines(400, seed), lines(100, seed + 100)
    mixing = np.random.default_rng(seed).normal(size=(3, 12))
    targets = train * signs(400, seed)
    found = predicted_directions(train @ mixing, targets, test @ mixing)
    assert direction_error(found, test * signs(100)) < 1.0
    assert direction_error(ridge(train @ mixing, targets, test @ mixing), test) > 20  # so it's the signs' choice


def test_axes_of_features_that_are_linear_in_the_matrix():
    train, test = lines(400), lines(100, 1)
    mixing = RNG.normal(size=(9, 30))

    def features(directions):
        return (directions[:, :, None] * directions[:, None]).reshape(-1, 9) @ mixing

    found = predicted_axes(features(train), train * signs(400), features(test))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-12)
    assert direction_error(found, test) < 1.0
    # Directions with a sign are not linear in these: the best signs leave a jump somewhere.
    assert direction_error(predicted_directions(features(train), train * signs(400), features(test)), test) > 5
    # Blind to the signs given, bit for bit.
    np.testing.assert_array_equal(found, predicted_axes(features(train), train, features(test)))


def test_predictions_turn_with_the_lines():
    train, test, turn = lines(200), lines(50, 1), orthogonal(3, 3, 1)
    features = [part @ RNG.normal(size=(3, 8)) ** 3 for part in (train, test)]
    noise = 0.3 * RNG.normal(size=(200, 8))
    for predict in (predicted_axes, predicted_directions):
        found = predict(features[0] + noise, train, features[1])
        turned = predict(features[0] + noise, train @ turn.T, features[1])
        assert direction_error(turned, found @ turn.T / np.linalg.norm(found, axis=1, keepdims=True)) < 1e-5


@pytest.mark.parametrize("predict", [predicted_axes, predicted_directions])
def test_features_that_know_nothing_are_a_radian_off(predict):
    noise = RNG.normal(size=(4000, 4))
    found = predict(noise[:2000], lines(2000), noise[2000:])
    assert direction_error(found, lines(2000, 1)) == pytest.approx(np.degrees(1.0), abs=2.0)


def test_the_error_of_lines():
    some, others = lines(20_000), lines(20_000, 1)
    # The angle between lines has density sin t on [0, 90 degrees]: mean a radian, standard deviation 0.38.
    assert direction_error(some, others) == pytest.approx(np.degrees(1.0), abs=5 * np.degrees(0.38) / 20_000**0.5)
    assert direction_error(some, some) == pytest.approx(0.0, abs=2e-6)
    scales = np.random.default_rng(1).uniform(0.1, 10, size=(20_000, 1)) * signs(20_000)
    assert direction_error(some * scales, some * signs(20_000, 2)) == pytest.approx(0.0, abs=2e-6)
    assert direction_error(some * scales, others) == pytest.approx(direction_error(some, others), rel=1e-9)


def test_angles_that_are_known():
    x, y = np.array([[1.0, 0, 0]]), np.array([[0.0, 1, 0]])
    assert direction_error(x, y) == pytest.approx(90.0)
    assert direction_error(3 * x + 3 * y, -y) == pytest.approx(45.0)
    assert direction_error(0 * x, y) == 90.0
    assert direction_error(np.concatenate([x, y]), np.concatenate([x, x])) == pytest.approx(45.0)
