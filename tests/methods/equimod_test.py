"""EquiMod's parameter vector: by hand, standardised, and the same wherever it is computed."""

import doctest
import sys

import jax
import numpy as np
import pytest

from care_jax.augment import AugmentSpec, CloudSpec, draw_uniforms, sample_cloud
from care_jax.methods import EQUIMOD_SIZE, equimod, equimod_parameters, equimod_standardisation

NORMALISATION = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


def test_equimods_vector_by_hand(by_hand):
    expected = [
        [0.25, 0.1, 0.5, 0.5, 1, 1, 2, 0, 3, 1, 1.2, 0.9, 0.2, -0.05, 0],
        [0, 0.6, 1, 0.2, 0, 0, 0, 1, 2, 3, 1, 1, 1, 0, 1],
    ]
    actual = equimod_parameters(by_hand, height=40, width=50)
    assert actual.shape == (2, EQUIMOD_SIZE) and actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_it_is_the_same_everywhere(check_description, check_one_size_an_image):
    check_description(lambda drawn: equimod_parameters(drawn, height=40, width=50))
    check_one_size_an_image(equimod_parameters)


def test_standardised_draws_have_mean_0_and_deviation_1(spec, draws):
    mean, std = equimod_standardisation(spec)
    assert isinstance(mean, np.ndarray) and mean.shape == std.shape == (EQUIMOD_SIZE,)
    assert mean.dtype == std.dtype == np.float32
    standardised = (equimod_parameters(draws, height=96, width=96) - mean) / std
    # Six standard errors of both sets of draws, and the rounding of boxes to pixels.
    tolerance = 6 * (len(draws.top) ** -0.5 + 4096**-0.5) + 0.01
    np.testing.assert_allclose(standardised.mean(0), np.zeros(15), atol=tolerance)
    np.testing.assert_allclose(standardised.std(0), np.ones(15), atol=tolerance)


def test_what_never_varies_has_deviation_1():
    spec = AugmentSpec(size=8, crop="center", center_fraction=0.7, jitter_probability=1.0, hue=0.1, **NORMALISATION)
    mean, std = equimod_standardisation(spec)
    varies = [*range(6, 10), 13]  # the order and the hue
    constant = np.setdiff1d(np.arange(15), varies)
    np.testing.assert_array_equal(std[constant], np.ones(len(constant)))
    assert (std[varies] != 1).all()
    np.testing.assert_allclose(mean[:6], [33 / 224, 33 / 224, 157 / 224, 157 / 224, 0, 1], atol=1e-7)


def test_the_standardisation_is_a_constant_of_a_traced_function(spec, by_hand):
    mean, std = equimod_standardisation(spec)
    assert equimod_standardisation(spec)[0] is mean
    equimod_standardisation.cache_clear()

    @jax.jit
    def standardised(drawn):
        mean, std = equimod_standardisation(spec)
        assert isinstance(mean, np.ndarray)
        return (equimod_parameters(drawn, height=40, width=50) - mean) / std

    drawn = jax.device_put(by_hand)
    with jax.transfer_guard("disallow"):
        traced = standardised(drawn)
    expected = (equimod_parameters(by_hand, height=40, width=50) - mean) / std
    np.testing.assert_allclose(traced, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        mean[0] = 0


def test_doctests():
    results = doctest.testmod(sys.modules[equimod_parameters.__module__])
    assert results.attempted and not results.failed


@pytest.mark.slow
def test_the_vector_of_clouds():
    """Nine numbers of a rotation, of variance 1/3, and the logarithm of the factor; what is off has deviation 1."""
    spec = CloudSpec(rotation=True, scaling=0.6, jitter=0.1, dropping=0.2)
    mean, std = equimod_standardisation(spec)
    np.testing.assert_allclose(mean, 0, atol=6 * 3**-0.5 / 4096**0.5)
    np.testing.assert_allclose(std[:9], 3**-0.5, atol=0.03)
    np.testing.assert_allclose(std[9], 0.6 * 3**-0.5, atol=0.03)
    mean, std = equimod_standardisation(CloudSpec(scaling=0.6))
    np.testing.assert_array_equal(mean[:9], np.eye(3).ravel())
    np.testing.assert_array_equal(std[:9], 1)
    drawn = sample_cloud(draw_uniforms(jax.random.key(0), (2, 5), spec), spec)
    vector = equimod.drawn_parameters(drawn, height=7, width=4)
    assert vector.shape == (2, 5, 10)
    np.testing.assert_array_equal(vector[..., :9].reshape(2, 5, 3, 3), drawn.rotation)
    np.testing.assert_allclose(np.exp(vector[..., 9]), drawn.scale, rtol=1e-6)
