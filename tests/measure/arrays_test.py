"""Two arrays from anywhere: a known rotation, a map that is none, noise, and what is no array."""

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.data import DataError
from care_jax.measure import arrays, numbers

RNG = np.random.default_rng(0)


def rotation(d):
    q, _ = np.linalg.qr(RNG.normal(size=(d, d)))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


def test_a_rotation_explains_itself_and_noise_nothing():
    before = RNG.normal(size=(400, 6)).astype(np.float32)
    found = numbers.of_pair(before, (before @ rotation(6).T).astype(np.float32))
    share = found["rotation_share_explained"]
    assert share["mean"] == pytest.approx(1.0, abs=1e-5) and share["n"] == 400
    assert found["follow_prediction"]["hit_at_1"]["mean"] == 1.0
    assert found["relative_equivariance"]["quantiles"]["0.5"] < 1e-8 < found["relative_equivariance"]["permuted"]["0.5"]
    null = found["permuted_share_explained"]
    assert null["low"] < 0.1 and null["mean"] < 0.1
    unrelated = numbers.of_pair(before, RNG.normal(size=(400, 6)).astype(np.float32))
    assert unrelated["rotation_share_explained"]["mean"] < 0.1
    assert numbers.of_pair(before, before)["rotation_share_explained"] is None


def test_angles_are_those_of_the_rotation():
    before, degrees = RNG.normal(size=(50, 4)), np.array([30.0, 100.0])
    turn = np.zeros((4, 4))
    for i, (c, s) in enumerate(zip(np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), strict=True)):
        turn[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, -s], [s, c]]
    angles = numbers.of_pair(before, before @ turn.T)["angles"]
    np.testing.assert_allclose(angles["largest"], [100.0, 30.0], atol=1e-4)
    assert angles["quantiles"]["0"] == pytest.approx(30.0) and angles["quantiles"]["0.5"] == pytest.approx(65.0)


def test_a_linear_map_that_is_no_rotation_is_told_from_one():
    before = RNG.normal(size=(400, 4))
    found = numbers.of_pair(before, before * [3.0, 1.0, 1.0, 1.0])
    assert found["linear_share_explained"]["mean"] == pytest.approx(1.0, abs=1e-6)
    assert found["rotation_share_explained"]["mean"] < 0.05
    mirrored = numbers.of_pair(before, before * [-1.0, 1.0, 1.0, 1.0])
    assert mirrored["orthogonal_share_explained"]["mean"] == pytest.approx(1.0, abs=1e-6)
    assert mirrored["rotation_share_explained"]["mean"] < 0.5


def test_what_moves_by_rounding_alone_does_not_move():
    before = RNG.normal(size=(40, 4)).astype(np.float32)
    assert not numbers.moves(before, before * np.float32(1 + 1e-6)) and numbers.moves(before, before * 1.001)
    assert numbers.pooled(before, [before, before + np.float32(1e-7)]) is None
    assert numbers.pooled(before, [before, before @ rotation(4).T])["mean"] == pytest.approx(1.0, abs=1e-5)


def test_few_rows_in_many_dimensions_are_measured_in_their_span(monkeypatch):
    before = RNG.normal(size=(8, 40))
    after = before @ rotation(40).T + 0.1 * RNG.normal(size=(8, 40))
    found = numbers.of_pair(before, after), numbers.pooled(before, [after, before @ rotation(40).T])
    monkeypatch.setattr(numbers, "_in_span", lambda before, draws: (before, draws))
    plain = numbers.of_pair(before, after), numbers.pooled(before, [after, before @ rotation(40).T])
    for kind in ("rotation", "orthogonal", "linear", "permuted"):
        share, other = (one[0][f"{kind}_share_explained"] for one in (found, plain))
        assert share["mean"] == pytest.approx(other["mean"], abs=1e-6)
    np.testing.assert_allclose(found[0]["angles"]["largest"], plain[0]["angles"]["largest"], atol=1e-3)
    assert (
        found[0]["angles"]["quantiles"]["0"] == 0.0 and found[0]["follow_prediction"] == plain[0]["follow_prediction"]
    )


def test_the_mean_over_augmentations():
    share = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 10}
    other = {"mean": 0.0, "low": -0.25, "high": 0.25, "n": 8}
    assert numbers.over([share, None, other]) == {"mean": 0.25, "low": 0.0, "high": 0.5, "n": 8}
    assert numbers.over([share, other | {"low": None}])["low"] is None
    assert numbers.over([None]) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([np.ones((5, 2))], "give two files"),
        ([np.ones((5, 2)), np.ones((5, 3))], r"is \[5, 2\], .* \[5, 3\]: give equal shapes"),
        ([np.ones(5), np.ones(5)], r"is float64\[5\]; give numbers"),
        ([np.ones((5, 0)), np.ones((5, 0))], r"is float64\[5, 0\]; give numbers"),
        ([np.full((5, 2), np.nan), np.ones((5, 2))], "not finite, first in row 0"),
        ([np.array([["a"] * 2] * 5)] * 2, "is <U1"),
        ([b"text", b"text"], "no array that NumPy saved"),
        ([b"", b""], "no array that NumPy saved"),
    ],
)
def test_what_is_no_pair_of_arrays_is_one_line(tmp_path, given, message):
    files = [tmp_path / f"{i}.npy" for i in range(len(given))]
    for file, array in zip(files, given, strict=True):
        file.write_bytes(array) if isinstance(array, bytes) else np.save(file, array)
    with pytest.raises((UsageError, DataError), match=message):
        arrays.read([*map(str, files)])
