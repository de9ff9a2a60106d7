"""Shares explained, angles, following, composition, parameters: motions planted on purpose, loops in float64, nulls."""

import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import metrics
from care_jax.metrics import heldout, motion
from care_jax.metrics.procrustes import procrustes_bound
from tests.metrics.planted import orthogonal, unit_rows


def turning(*degrees: float) -> np.ndarray:
    """A rotation by these angles, in planes that are no coordinate planes."""
    rotation = np.zeros((2 * len(degrees), 2 * len(degrees)))
    for plane, angle in enumerate(np.radians(degrees)):
        here = slice(2 * plane, 2 * plane + 2)
        rotation[here, here] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    basis = orthogonal(0, len(rotation), 1)
    return basis @ rotation @ basis.T


def share(f, fa, kind="rotation", **options):
    found = motion.share_explained(f, fa, kind=kind, bootstraps=200, **options)
    assert found is not None and found.n == len(f)
    return found


def within(value: float, found: motion.Estimate) -> bool:
    return found.low <= value <= found.high


def test_a_rotation_explains_all_and_its_angles_come_back():
    f, rotation = unit_rows(1, 80, 8), turning(150, 90, 20, 1)
    found = share(f, f @ rotation.T)
    np.testing.assert_allclose(found[:3], 1, atol=1e-12)
    fitted = motion.best_map(f, f @ rotation.T)
    np.testing.assert_allclose(fitted, rotation, atol=1e-9)
    np.testing.assert_allclose(motion.rotation_angles(fitted), [150, 90, 20, 1], atol=1e-6)


@pytest.mark.parametrize("d", [3, 4, 7])
def test_angles_of_half_turns_odd_sizes_and_no_turn(d):
    assert motion.rotation_angles(np.eye(d)).tolist() == [0] * (d // 2)
    half = np.diag([-1.0, -1.0] + [1.0] * (d - 2))
    np.testing.assert_allclose(motion.rotation_angles(half), [180] + [0] * (d // 2 - 1), atol=1e-12)
    np.testing.assert_allclose(motion.rotation_angles(-np.eye(4)), [180, 180])


def test_the_lone_half_turn_of_a_reflection_is_one_of_its_angles():
    reflection = np.eye(4)
    reflection[:2, :2], reflection[2, 2] = [[0, -1], [1, 0]], -1
    np.testing.assert_allclose(motion.rotation_angles(reflection), [180, 90])


@pytest.mark.parametrize("degrees", [(), (90.0,), (90.0, 28.6), (180.0, 45.0)])
def test_a_reflection_of_odd_size_keeps_all_its_planes(degrees):
    size = 2 * len(degrees) + 1
    reflection = np.full((size, size), 0.0)
    reflection[:-1, :-1], reflection[-1, -1] = turning(*degrees) if degrees else 0.0, -1.0
    basis = orthogonal(4, size, 1)
    found = motion.rotation_angles(basis @ reflection @ basis.T)
    np.testing.assert_allclose(found, sorted((180.0, *degrees), reverse=True), atol=1e-5)
    reflection[-1, -1] = 1.0
    found = motion.rotation_angles(basis @ reflection @ basis.T)
    np.testing.assert_allclose(found, sorted(degrees, reverse=True), atol=1e-5)


def test_a_reflection_is_orthogonal_and_no_rotation():
    f = unit_rows(2, 80, 4)
    fa = f @ orthogonal(3, 4, determinant=-1).T
    assert share(f, fa).high < 0.9
    for kind in ("orthogonal", "linear"):
        np.testing.assert_allclose(share(f, fa, kind)[:3], 1, atol=1e-9)


def test_a_linear_map_that_is_no_rotation_is_linear_only():
    f = unit_rows(4, 80, 4)
    fa = f @ np.random.default_rng(5).standard_normal((4, 4)).T
    np.testing.assert_allclose(share(f, fa, "linear")[:3], 1, atol=1e-12)
    assert share(f, fa).high < 0.9 and share(f, fa, "orthogonal").high < 0.9


def test_noise_is_not_explained():
    f = unit_rows(6, 4000, 4)
    fa = f + 0.5 * np.random.default_rng(7).standard_normal(f.shape)
    for kind in ("rotation", "orthogonal"):
        # A map fitted to noise turns a little, and so does worse than none, by about (d - 1) / n.
        assert -0.005 < share(f, fa, kind).mean <= share(f, fa, kind).high < 0.005


@pytest.mark.parametrize("kind", ["rotation", "orthogonal"])
def test_permuted_pairs_of_centred_embeddings_are_not_explained(kind):
    f = unit_rows(8, 1001, 8)
    f -= f.mean(axis=0)
    fa = [f @ turning(90, 60, 30, 10).T, f @ turning(170, 50, 40, 10).T]
    assert share(f, fa, kind).low > 0.99
    assert within(0, share(f, fa, kind, permuted=True))


@pytest.mark.parametrize(("d", "percent"), [(16, 11), (64, 21), (128, 30)])
def test_unrelated_unit_vectors(d, percent):
    f, fa = unit_rows(9, 1000, d), unit_rows(10, 1000, d)
    assert within(0, share(f, fa))
    left, moved = (np.square(start - fa).sum() for start in (f @ motion.best_map(f, fa).T, f))
    assert 100 * (1 - left / moved) == pytest.approx(percent, abs=1.5)  # judged on what it was fitted to


@pytest.mark.parametrize("kind", ["rotation", "orthogonal", "linear"])
def test_shares_by_loops(kind):
    f, draws = unit_rows(11, 21, 3), [unit_rows(12, 21, 3), 0.3 * unit_rows(13, 21, 3)]
    halves = np.array_split(np.random.default_rng(5).permutation(21), 2)
    left = moved = 0.0
    for fa in draws:
        for fitted, judged in (halves, halves[::-1]):
            if kind == "linear":
                map_ = np.linalg.lstsq(f[fitted], fa[fitted], rcond=None)[0].T
            else:
                u, _, vt = np.linalg.svd(fa[fitted].T @ f[fitted])
                flip = np.linalg.det(u @ vt) if kind == "rotation" else 1
                map_ = u @ np.diag([1, 1, flip]) @ vt
            for row in judged:
                left += sum((map_ @ f[row] - fa[row]) ** 2)
                moved += sum((f[row] - fa[row]) ** 2)
    found = [share(f, given, kind, seed=5) for given in (draws, np.stack(draws), iter(draws))]
    assert found[0] == found[1] == found[2]
    assert found[0].mean == pytest.approx(1 - left / moved, abs=1e-8)


def test_the_best_map_is_that_of_wahba():
    f, fa = unit_rows(14, 40, 6), unit_rows(15, 40, 6)
    for kind in ("rotation", "orthogonal"):
        expected = np.asarray(metrics.wahba(f, fa, special=kind == "rotation")[0])
        np.testing.assert_allclose(motion.best_map(f, fa, kind=kind), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["rotation", "orthogonal", "linear"])
def test_what_was_not_seen_stays(kind):
    f = np.zeros((6, 5))
    f[:, :2] = unit_rows(16, 6, 2)
    turned = f.copy()
    turned[:, :2] = f[:, :2] @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    expected, basis = np.eye(5), orthogonal(17, 5, 1)  # in which what is not seen is 0 but for rounding
    expected[:2, :2] = [[0, -1], [1, 0]]
    found = motion.best_map(f @ basis.T, turned @ basis.T, kind=kind)
    np.testing.assert_allclose(found, basis @ expected @ basis.T, atol=1e-6)


def test_nothing_moves():
    f = unit_rows(17, 10, 3)
    assert motion.share_explained(f, f) is None
    assert motion.share_explained(f, [f, f], kind="linear") is None
    assert motion.share_explained(f, [f, -f]) is not None


def test_following_by_loops():
    f, draws = unit_rows(18, 17, 4), [unit_rows(19, 17, 4), unit_rows(18, 17, 4) + 0.4 * unit_rows(20, 17, 4)]
    draws[0][3] = draws[0][9] = draws[0][11]  # ties
    halves = np.array_split(np.random.default_rng(0).permutation(17), 2)
    ranks = []
    for fa in draws:
        for fitted, judged in (halves, halves[::-1]):
            rotation = motion.best_map(f[fitted], fa[fitted])
            for row in judged:
                near = [np.linalg.norm(rotation @ f[row] - fa[other]) for other in judged]
                own = np.linalg.norm(rotation @ f[row] - fa[row])
                ranks.append(sum(distance <= own + 1e-12 for distance in near))
    found = motion.follow_prediction(f, draws, hits=(1, 2), bootstraps=50)
    assert list(found) == ["mean_reciprocal_rank", "hit_at_1", "hit_at_2"]
    expected = [np.mean(1 / np.array(ranks)), *(np.mean(np.array(ranks) <= k) for k in (1, 2))]
    np.testing.assert_allclose([estimate.mean for estimate in found.values()], expected, atol=1e-12)
    assert all(within(estimate.mean, estimate) for estimate in found.values())


def test_following_a_rotation_never_fails_and_one_point_for_all_always_does():
    f = unit_rows(21, 100, 4)
    assert motion.follow_prediction(f, f @ turning(140, 80).T)["hit_at_1"][:3] == (1, 1, 1)
    collapsed = motion.follow_prediction(f, np.ones_like(f))
    assert collapsed["hit_at_5"].mean == 0
    assert collapsed["mean_reciprocal_rank"].mean == pytest.approx(1 / 50)  # the last of its half


def test_blocks_change_no_rank(monkeypatch):
    f, fa = unit_rows(22, 61, 4), unit_rows(23, 61, 4)
    whole = motion.follow_prediction(f, fa)
    monkeypatch.setattr(motion, "_BLOCK", 100)
    assert motion.follow_prediction(f, fa) == whole


def test_composition():
    f, first, second = unit_rows(24, 60, 4), turning(100, 30), orthogonal(25, 4, 1)
    exact = motion.composition(f, f @ first.T, f @ second.T, f @ first.T @ second.T)
    assert exact.mean < 1e-8 and exact.n == 60
    swapped = motion.composition(f, f @ first.T, f @ second.T, f @ second.T @ first.T)
    assert swapped.low > 0.1  # they do not commute: the first acts first
    np.testing.assert_allclose(
        motion.composition(f, [f @ first.T] * 2, [f @ second.T] * 2, [f @ second.T @ first.T] * 2), swapped
    )


def test_composition_is_that_of_metrics_on_the_other_half():
    f, fa, fb, fba = (unit_rows(seed, 30, 3) for seed in range(26, 30))
    halves, squares = heldout.halves(30, 0), []
    for fitted, judged in (halves, halves[::-1]):
        maps = (metrics.wahba(f[fitted], image[fitted])[0] for image in (fa, fb))
        squares.append(float(metrics.composition_error(*maps, f[judged], fba[judged])) ** 2)
    assert motion.composition(f, fa, fb, fba).mean == pytest.approx(np.sqrt(np.mean(squares)), abs=1e-4)


F = unit_rows(38, 8, 3)
NOT_FINITE = np.where(np.arange(8)[:, None] == 5, np.nan, F)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_arrays_of_jax_are_those_of_numpy(dtype):
    """One draw or several, and types that NumPy takes for no numbers."""
    rng = np.random.default_rng(0)
    of_jax = [jnp.asarray(rng.standard_normal((2, 12, 3)), dtype) for _ in range(4)]
    of_numpy = [np.asarray(x, np.float64) for x in of_jax]
    few = {"bootstraps": 10}

    def measured(f, fa, fb, fba):
        f = f[0]
        return (
            motion.best_map(f, fa[0]).tolist(),
            *(motion.share_explained(f, after, **few) for after in (fa[0], fa, list(fa))),
            *(motion.follow_prediction(f, after, **few) for after in (fa[0], fa)),
            *(motion.relative_equivariance_quantiles(f, after) for after in (fa[0], fa)),
            *(motion.composition(f, *draws, **few) for draws in ((fa[0], fb[0], fba[0]), (fa, fb, fba))),
            motion.parameters_explained(f, fa[0], {"x": fb[0, :, 0]}, inputs=jnp.arange(12), **few),
            procrustes_bound(f, fa[0]),
            motion.rotation_angles(jnp.eye(4)).tolist(),
        )

    assert measured(*of_jax) == measured(*of_numpy)
    assert motion.share_explained(of_numpy[0][0], of_jax[1][0], **few) == measured(*of_numpy)[1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: motion.share_explained(F, [F.tolist()[0][0]]), "after must be numbers"),
        (lambda: motion.share_explained(F, F[:7].tolist()), r"after must be \[8, 3\]"),
        (lambda: motion.share_explained(F[:3], F[:3]), "before must be numbers"),
        (lambda: motion.share_explained(F[0], F[0]), "before must be numbers"),
        (lambda: motion.share_explained(F, F[:, :2]), r"after must be \[8, 3\]"),
        (lambda: motion.share_explained(F, [F, F[:7]]), r"after must be \[8, 3\]"),
        (lambda: motion.share_explained(F, []), "no draw"),
        (lambda: motion.share_explained(F, jnp.asarray(F)[0]), r"\[n, d\], or \[a, n, d\] of several draws; got \[3\]"),
        (lambda: motion.share_explained(F > 0, F), r"before must be numbers .*; got bool\[8, 3\]"),
        (lambda: motion.share_explained(NOT_FINITE, F), "before is not finite, first in row 5"),
        (lambda: motion.share_explained(F, NOT_FINITE), "after is not finite, first in row 5"),
        (lambda: motion.share_explained(F, -F, kind="affine"), "'affine'"),
        (lambda: motion.share_explained(F, -F, bootstraps=0), "bootstraps"),
        (lambda: motion.best_map(F, F[:, :2]), "after"),
        (lambda: motion.best_map(F, F, kind="affine"), "'affine'"),
        (lambda: motion.rotation_angles(F), r"\[d, d\]"),
        (lambda: motion.rotation_angles(2 * np.eye(3)), "orthogonal"),
        (lambda: motion.rotation_angles(np.full((2, 2), np.nan)), "orthogonal"),
        (lambda: motion.follow_prediction(F, F, hits=(0,)), "hits"),
        (lambda: motion.follow_prediction(F, NOT_FINITE), "after"),
        (lambda: motion.composition(F, F, F, 0 * F), "zero"),
        (lambda: motion.composition(F, F, F, [F, F]), "composition: .* must have as many draws; one has fewer"),
        (lambda: motion.composition(F, F, F[:4], F), "second must be"),
        (lambda: motion.parameters_explained(F, F, {}), "no parameters"),
        (lambda: motion.parameters_explained(F, F, {"hue": F}), "'hue'"),
        (lambda: motion.parameters_explained(F, F, {"hue": NOT_FINITE[:, 0]}), "hue is not finite"),
        (lambda: motion.parameters_explained(F, F, {"hue": F[:, 0]}, kind="forest"), "'forest'"),
        (lambda: motion.relative_equivariance_quantiles(F, F, (2,)), "quantiles"),
        (lambda: motion.relative_equivariance_quantiles(F[:2], F[:2]), "before"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_centred_is_beyond_the_motion_of_the_mean():
    """A rotation that carries the mean along explains most of what it moves, whatever becomes of the rest."""
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(2, 1000, 4))
    rotation = motion.best_map(x, other)
    mean, moved = 10 * np.eye(4)[:2]
    turned = motion.share_explained(mean + x, moved + x @ rotation.T, centred=True)
    assert turned.mean == pytest.approx(1.0)
    assert motion.share_explained(mean + x, moved + other).mean > 0.9
    unrelated = motion.share_explained(mean + x, moved + other, centred=True)
    assert unrelated is not None and within(0, unrelated)
    assert motion.share_explained(mean + x, moved + x, centred=True) is None
