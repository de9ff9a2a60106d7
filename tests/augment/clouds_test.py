"""Clouds: rotations uniform over SO(3), exactly; what is applied by loops; nothing of what is no point, or off."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from care_jax.augment import CloudAugmentation, CloudSpec, apply_cloud, cloud_identity, draw_uniforms, sample_cloud
from care_jax.augment.clouds import NUM_CLOUD_UNIFORMS, axis_rotation, haar_rotation

ALL = CloudSpec(rotation=True, scaling=0.3, jitter=0.05, dropping=0.3)
SPECS = {
    "rotation": CloudSpec(rotation=True),
    "scaling": CloudSpec(scaling=0.3),
    "jitter": CloudSpec(jitter=0.05),
    "dropping": CloudSpec(dropping=0.3),
    "all": ALL,
}
RNG = np.random.default_rng(0)
MASK = np.arange(9) < np.array([9, 8, 5, 3, 1])[:, None]
POINTS = RNG.normal(size=(5, 9, 3))
CLOUDS = np.where(MASK[..., None], np.concatenate([POINTS, np.ones((5, 9, 1))], axis=-1), 0).astype(np.float32)

_applied = jax.jit(apply_cloud, static_argnames="spec")


def _drawn(spec: CloudSpec, shape: tuple[int, ...] = (5,), seed: int = 0) -> CloudAugmentation:
    return sample_cloud(draw_uniforms(jax.random.key(seed), shape, spec), spec)


def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Rotations and weights whose mean is the integral over all uniforms, of polynomials of degree 3 of the rotation.

    Those are trigonometric polynomials of degree 6 of two of the uniforms, and what they leave is one of degree 3 of
    the third.
    """
    nodes, weights = np.polynomial.legendre.leggauss(4)
    turns = (np.arange(8) + 0.3) / 8
    uniforms = np.stack(np.meshgrid((nodes + 1) / 2, turns, turns, indexing="ij"), axis=-1).astype(np.float32)
    return np.asarray(haar_rotation(jnp.asarray(uniforms)), np.float64), (weights / 2 / 64)[:, None, None]


@pytest.mark.parametrize("turn", [np.eye(3), Rotation.from_rotvec([0.3, -1.2, 0.7]).as_matrix()], ids=["", "turned"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_moments_are_those_of_haar_measure(turn, side):
    """Exact: means of R_ij, R_ij R_kl and R_ij R_kl R_mn are 0, d_ik d_jl / 3 and e_ikm e_jln / 6; turned or not."""
    rotations, weights = _quadrature()
    rotations = turn @ rotations if side == "left" else rotations @ turn
    first = np.einsum("abc,abcij->ij", np.broadcast_to(weights, (4, 8, 8)), rotations)
    flat, weight = rotations.reshape(-1, 3, 3), np.broadcast_to(weights, (4, 8, 8)).reshape(-1)
    second = np.einsum("r,rij,rkl->ijkl", weight, flat, flat)
    third = np.einsum("r,rij,rkl,rmn->ijklmn", weight, flat, flat, flat, optimize=True)
    identity, permutation = np.eye(3), np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        permutation[i, j, k], permutation[i, k, j] = 1, -1
    np.testing.assert_allclose(first, 0, atol=1e-6)
    np.testing.assert_allclose(second, np.einsum("ik,jl->ijkl", identity, identity) / 3, atol=1e-6)
    np.testing.assert_allclose(third, np.einsum("ikm,jln->ijklmn", permutation, permutation) / 6, atol=1e-6)
    traces = np.trace(flat, axis1=1, axis2=2)
    if np.array_equal(turn, identity):
        assert (weight * traces**2).sum() == pytest.approx(1.0, abs=1e-5)


def test_drawn_rotations_are_rotations_by_haar_measure():
    """Of angles of density (1 - cos t) / pi, about axes uniform on the sphere, independent of the angle."""
    rotations = np.asarray(jax.jit(_drawn, static_argnums=(0, 1))(ALL, (20_000,)).rotation, np.float64)
    np.testing.assert_allclose(rotations @ np.swapaxes(rotations, 1, 2), np.tile(np.eye(3), (20_000, 1, 1)), atol=2e-6)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=2e-6)
    vectors = Rotation.from_matrix(rotations).as_rotvec()
    angles = np.linalg.norm(vectors, axis=1)
    assert stats.kstest(angles, lambda t: (t - np.sin(t)) / np.pi).pvalue > 1e-3
    for along in (vectors / angles[:, None]).T:
        assert stats.kstest(along, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(angles, vectors[:, 2] / angles)[0, 1]) < 4 / math.sqrt(20_000)
    # What a turn makes of them has the same angles.
    turned = Rotation.from_matrix(rotations) * Rotation.from_rotvec([0.0, 2.0, 1.0])
    assert stats.kstest(turned.magnitude(), lambda t: (t - np.sin(t)) / np.pi).pvalue > 1e-3


def test_the_ends_of_the_uniforms_are_rotations():
    ends = np.array([0.0, 1.0 - 2.0**-24], np.float32)
    uniforms = np.stack(np.meshgrid(ends, ends, ends), axis=-1).reshape(-1, 3)
    rotations = np.asarray(haar_rotation(jnp.asarray(uniforms)), np.float64)
    np.testing.assert_allclose(rotations @ np.swapaxes(rotations, 1, 2), np.tile(np.eye(3), (8, 1, 1)), atol=1e-6)


def test_rotations_about_an_axis():
    vectors = RNG.normal(size=(4, 25, 3))
    angles = np.linalg.norm(vectors, axis=-1)
    found = axis_rotation(jnp.asarray(vectors / angles[..., None], jnp.float32), jnp.asarray(angles, jnp.float32))
    expected = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(4, 25, 3, 3)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    quarter = axis_rotation(jnp.array([0.0, 0.0, 1.0]), jnp.float32(np.pi / 2))
    np.testing.assert_allclose(quarter @ jnp.array([1.0, 0.0, 0.0]), [0.0, 1.0, 0.0], atol=1e-6)


def _by_loops(drawn: CloudAugmentation, clouds: np.ndarray, noise: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Cloud by cloud and point by point, in float64."""
    found = np.zeros(clouds.shape)
    for c, cloud in enumerate(clouds.astype(np.float64)):
        rotation, scale = np.float64(drawn.rotation[c]), np.float64(drawn.scale[c])
        for p, (*point, is_point) in enumerate(cloud):
            if is_point and kept[c, p]:
                for i in range(3):
                    turned = sum(rotation[i, j] * point[j] for j in range(3))
                    found[c, p, i] = scale * turned + np.float64(drawn.jitter[c]) * noise[c, p, i]
                found[c, p, 3] = 1
    return found


@pytest.mark.parametrize("name", SPECS)
def test_equals_loops(name):
    spec = SPECS[name]
    drawn = _drawn(spec)
    keys = [[jax.random.wrap_key_data(seed, impl="threefry2x32") for seed in x] for x in (drawn.noise, drawn.left_out)]
    noise = np.stack([jax.random.normal(key, (9, 3)) for key in keys[0]])
    chances = np.where(MASK, np.stack([jax.random.uniform(key, (9,)) for key in keys[1]]), -1)
    kept = (chances >= np.float32(drawn.dropping)[:, None]) | (chances == chances.max(axis=1, keepdims=True))
    found = _applied(drawn, CLOUDS, spec)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _by_loops(drawn, CLOUDS, noise, kept), rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(found[..., 3], MASK & kept)
    assert not spec.dropping or (MASK & ~kept).any()


def test_two_rotations_are_their_product():
    spec = CloudSpec(rotation=True)
    first, second = _drawn(spec, seed=1), _drawn(spec, seed=2)
    product = np.einsum("bij,bjk->bik", np.float64(second.rotation), np.float64(first.rotation)).astype(np.float32)
    one_by_one = _applied(second, _applied(first, CLOUDS, spec), spec)
    np.testing.assert_allclose(_applied(first._replace(rotation=product), CLOUDS, spec), one_by_one, atol=2e-6)
    other_way = _applied(first, _applied(second, CLOUDS, spec), spec)
    assert np.abs(other_way - one_by_one).max() > 0.1
    lengths = [np.linalg.norm(x[..., :3], axis=-1) for x in (CLOUDS, one_by_one)]
    np.testing.assert_allclose(*lengths, atol=2e-6)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf, 1e30])
def test_nothing_in_the_padding_leaks(name, padding):
    """Bit for bit: neither into the clouds nor into a gradient."""
    drawn, spec = _drawn(SPECS[name]), SPECS[name]
    padded = CLOUDS.copy()
    padded[..., :3][~MASK] = padding
    np.testing.assert_array_equal(_applied(drawn, padded, spec), _applied(drawn, CLOUDS, spec))
    gradient = jax.jit(jax.grad(lambda clouds: jnp.sin(apply_cloud(drawn, clouds, spec)[..., :3]).sum()))
    np.testing.assert_array_equal(gradient(padded), gradient(CLOUDS))
    assert np.isfinite(gradient(padded)).all() and not np.asarray(gradient(padded))[~MASK].any()


@pytest.mark.parametrize("name", SPECS)
def test_more_padding_changes_nothing_but_rounding(name):
    drawn, spec = _drawn(SPECS[name]), SPECS[name]
    found = _applied(drawn, np.pad(CLOUDS, ((0, 0), (0, 7), (0, 0))), spec)
    np.testing.assert_allclose(found[:, :9], _applied(drawn, CLOUDS, spec), atol=1e-6)
    assert not np.asarray(found)[:, 9:].any()


def test_gradients_by_what_was_drawn_are_finite():
    drawn = _drawn(ALL)
    by = {name: getattr(drawn, name) for name in ("rotation", "scale", "jitter")}
    gradient = jax.jit(jax.grad(lambda by, x: jnp.sin(apply_cloud(drawn._replace(**by), x, ALL)).sum()))
    padded = np.where(MASK[..., None], CLOUDS, np.float32([np.nan, np.inf, 1e30, 0]))
    for name, of_clean in gradient(by, CLOUDS).items():
        assert np.isfinite(of_clean).all() and np.asarray(of_clean).any()
        np.testing.assert_array_equal(gradient(by, padded)[name], of_clean)


def test_factors_are_even_on_their_logarithm():
    uniforms = np.zeros((3, NUM_CLOUD_UNIFORMS), np.float32)
    uniforms[:, 3] = 0.0, 0.5, 0.75
    np.testing.assert_allclose(sample_cloud(uniforms, ALL).scale, np.exp([-0.3, 0.0, 0.15]), rtol=1e-6)
    drawn = _drawn(ALL, (5000,))
    assert stats.kstest(np.log(drawn.scale), stats.uniform(-0.3, 0.6).cdf).pvalue > 1e-3
    assert np.all(_drawn(CloudSpec(rotation=True)).scale == 1)


def test_jitter_is_normal_and_each_points_own():
    spec = CloudSpec(jitter=0.2)
    clouds = np.ones((2, 4000, 4), np.float32)
    noise = np.asarray(_applied(_drawn(spec, (2,)), clouds, spec))[..., :3] - 1
    for of_axis in noise.reshape(-1, 3).T:
        assert stats.kstest(of_axis, stats.norm(0, 0.2).cdf).pvalue > 1e-3
    flat = noise.transpose(0, 2, 1).reshape(6, -1)  # of two clouds, three coordinates
    assert np.abs(np.corrcoef(flat) - np.eye(6)).max() < 5 / math.sqrt(4000)


def test_who_is_left_out_has_nothing_to_do_with_the_noise():
    drawn = _drawn(ALL, (50,))
    assert not (np.asarray(drawn.noise) == np.asarray(drawn.left_out)).any()
    for seeds in (drawn.noise, drawn.left_out):
        assert len(np.unique(seeds)) == 100


def test_points_are_left_out_as_often_as_asked():
    spec = CloudSpec(dropping=0.3)
    clouds = np.ones((4, 5000, 4), np.float32)
    kept = np.asarray(_applied(_drawn(spec, (4,)), clouds, spec))
    assert set(np.unique(kept.reshape(-1, 4), axis=0)[:, 3]) == {0.0, 1.0}
    assert np.array_equal(kept, np.where(kept[..., 3:] > 0, clouds, 0))
    assert np.abs(kept[..., 3].mean(axis=1) - 0.7).max() < 5 * math.sqrt(0.21 / 5000)
    together = np.corrcoef(kept[..., 3])
    assert np.abs(together - np.eye(4)).max() < 5 / math.sqrt(5000)


def test_one_point_always_stays():
    spec = CloudSpec(dropping=0.99)
    clouds = np.tile(CLOUDS, (40, 1, 1))
    counts = np.asarray(_applied(_drawn(spec, (200,)), clouds, spec))[..., 3].sum(axis=1)
    assert counts.min() == 1 and counts.max() <= 3
    nothing = np.zeros((2, 4, 4), np.float32)
    assert not np.asarray(_applied(_drawn(spec, (2,)), nothing, spec)).any()


@pytest.mark.parametrize("name", SPECS)
def test_one_draw_for_all_is_its_row_repeated(name):
    spec = SPECS[name]
    row = draw_uniforms(jax.random.key(3), (), spec)
    assert row.shape == (NUM_CLOUD_UNIFORMS,)
    shared = _applied(sample_cloud(row, spec), CLOUDS, spec)
    repeated = _applied(sample_cloud(jnp.tile(row, (5, 1)), spec), CLOUDS, spec)
    np.testing.assert_allclose(shared, repeated, atol=1e-6)
    np.testing.assert_array_equal(shared[..., 3], repeated[..., 3])


@pytest.mark.parametrize("name", SPECS)
def test_eager_compiled_and_mapped_are_the_same(name):
    spec, uniforms = SPECS[name], draw_uniforms(jax.random.key(4), (5,), SPECS[name])

    def both(uniforms, clouds):
        return apply_cloud(sample_cloud(uniforms, spec), clouds, spec)

    eager = both(uniforms, jnp.asarray(CLOUDS))
    for other in (jax.jit(both), jax.vmap(both), jax.jit(jax.vmap(both))):
        np.testing.assert_allclose(other(uniforms, CLOUDS), eager, atol=2e-6)


@pytest.mark.parametrize("spec", [CloudSpec(), ALL], ids=["off", "on"])
@pytest.mark.parametrize("leading", [(), (5,)])
def test_the_identity_leaves_clouds_as_they_are(spec, leading):
    found = _applied(cloud_identity(leading), CLOUDS, spec)
    assert np.asarray(found).tobytes() == CLOUDS.tobytes()
    assert _applied(cloud_identity(leading), CLOUDS.astype(np.float16), spec).dtype == np.float32


def test_what_is_off_is_not_computed():
    def traced(spec):
        return str(jax.make_jaxpr(lambda u, x: apply_cloud(sample_cloud(u, spec), x, spec))(np.zeros((5, 8)), CLOUDS))

    assert not any(word in traced(CloudSpec()) for word in ("random_bits", "threefry", "dot_general", " cos "))
    assert "dot_general" in traced(CloudSpec(rotation=True)) and "random_bits" not in traced(CloudSpec(rotation=True))
    assert "random_bits" in traced(CloudSpec(jitter=0.1)) and "dot_general" not in traced(CloudSpec(jitter=0.1))
    # A draw's own value of what is off is ignored.
    drawn = _drawn(ALL)
    np.testing.assert_array_equal(_applied(drawn, CLOUDS, CloudSpec()), CLOUDS)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *(("rotation", value, "True or False") for value in (1, "yes", None)),
        *((name, x, "at least 0") for name in ("scaling", "jitter") for x in (-0.1, math.inf, math.nan, "1", None)),
        *(("dropping", value, "a probability") for value in (-0.1, 1.0, 1, math.nan, "0.5", (0.1, 0.2))),
    ],
)
def test_a_bad_field_is_named_with_its_value(field, value, expected):
    with pytest.raises(ValueError, match=rf"CloudSpec\.{field} must be .*{expected}.*; got ") as error:
        CloudSpec(**{field: value})
    assert repr(value) in str(error.value) and "\n" not in str(error.value)


def test_settings_leave_all_off():
    assert CloudSpec(**CloudSpec.settings()) == CloudSpec() and hash(CloudSpec()) == hash(CloudSpec())
    assert set(CloudSpec.settings()) == {"rotation", "scaling", "jitter", "dropping"}


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"uniforms must be \[..., 8\]; got shape \(5, 7\)"):
        sample_cloud(np.zeros((5, 7)), ALL)
    for shape in ((5, 9, 3), (4,)):
        with pytest.raises(ValueError, match=r"clouds must be \[..., n, 4\]; got shape"):
            apply_cloud(cloud_identity(), jnp.zeros(shape), ALL)


@pytest.mark.slow
def test_views_are_of_the_clouds_type_whatever_was_drawn_in():
    spec = CloudSpec(rotation=True, scaling=0.1, jitter=0.1, dropping=0.1)
    with jax.enable_x64(True):
        nothing = cloud_identity((2,))
        drawn = nothing._replace(rotation=jnp.asarray(nothing.rotation, jnp.float64))
        for dtype in (jnp.float32, jnp.float64):
            assert apply_cloud(drawn, jnp.ones((2, 5, 4), dtype), spec).dtype == dtype
