"""Two arrays from anywhere, and a run: a known rotation, noise, and what is no array."""

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.data import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def measure(import_command):
    return import_command("care_jax.measure")


def rotation(d):
    q, _ = np.linalg.qr(RNG.normal(size=(d, d)))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


def test_a_rotation_explains_itself_and_noise_nothing(measure):
    before = RNG.normal(size=(400, 6)).astype(np.float32)
    found = measure.of_arrays(before, (before @ rotation(6).T).astype(np.float32))
    assert found["rotation_share_explained"] == pytest.approx(1.0, abs=1e-5)
    assert found["wahba_mean"] < 1e-4 < found["displacement_mean"]
    assert found["relative_equivariance_median"] < 1e-8
    unrelated = measure.of_arrays(before, RNG.normal(size=(400, 6)).astype(np.float32))
    assert unrelated["rotation_share_explained"] < 0.1 and unrelated["wahba_mean"] > 1.0
    assert measure.of_arrays(before, before)["rotation_share_explained"] is None


def test_the_share_is_of_rows_that_were_not_fitted(measure):
    """In many dimensions a rotation fits any 100 rows; the others know better."""
    before, after = RNG.normal(size=(2, 200, 128)).astype(np.float32)
    found = measure.of_arrays(before, after)
    fitted = 1 - found["wahba_mean"] ** 2 / found["displacement_mean"] ** 2
    assert fitted > 0.3 and found["rotation_share_explained"] < 0.1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.ones((5, 2))], "give two files"),
        ([np.ones((5, 2)), np.ones((5, 3))], r"is \[5, 2\], .* \[5, 3\]: give equal shapes"),
        ([np.ones(5), np.ones(5)], r"is float64\[5\]; give numbers"),
        ([np.full((5, 2), np.nan), np.ones((5, 2))], "not finite, first in row 0"),
        ([np.array([["a"] * 2] * 5)] * 2, "is <U1"),
        ([b"text", b"text"], "no array that NumPy saved"),
    ],
)
def test_what_is_no_pair_of_arrays_is_one_line(measure, tmp_path, arrays, message):
    files = [tmp_path / f"{i}.npy" for i in range(len(arrays))]
    for file, array in zip(files, arrays, strict=True):
        file.write_bytes(array) if isinstance(array, bytes) else np.save(file, array)
    with pytest.raises((UsageError, DataError), match=message):
        measure._read([*map(str, files)])


@pytest.mark.slow
def test_a_run_is_measured_on_any_images(measure, saved_run):
    config = saved_run.config.copy_and_resolve_references()
    config.evaluate.num_augmentations = 2
    found, about = measure.of_run(saved_run.workdir, config, images=str(saved_run.images))
    assert about["test_examples"] == 24 and about["steps"] == 3
    assert 0 < found["wahba_mean"] <= found["displacement_mean"]
    assert found["rotation_share_explained"] < 1 and {"alignment", "uniformity"} <= found.keys()
