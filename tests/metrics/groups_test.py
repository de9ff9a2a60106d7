"""The best member of a form's group: planted members, SciPy from the true one, Wahba for B = I, degenerate data."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from care_jax import metrics

N, D = 40, 6  # one shape: the search compiles once a type
# The form is an argument, so that all forms share one program.
search = jax.jit(lambda f, fa, form, max_steps: metrics.group_residual(f, fa, form=form, max_steps=max_steps))

jitted_wahba = jax.jit(partial(metrics.wahba, special=False))


def search64(f, fa, form, max_steps=60):
    with jax.enable_x64(True):
        member, error = search(*(np.asarray(x, np.float64) for x in (f, fa, form)), max_steps)
        return np.asarray(member), float(error)


def form_of(kind: str) -> np.ndarray:
    general, half = np.random.default_rng(0).standard_normal((D, D)), np.eye(D // 2)
    return {
        "orthogonal": np.eye(D),
        "lorentz": np.diag([-1.0] + [1.0] * (D - 1)),
        "symplectic": np.block([[0 * half, half], [-half, 0 * half]]),
        "symmetric": general + general.T + 3 * np.diag([1, 1, 1, -1, -1, -1]),
        "skew": general - general.T + 3 * np.block([[0 * half, half], [-half, 0 * half]]),
    }[kind]


KINDS = ["orthogonal", "lorentz", "symplectic", "symmetric", "skew"]


def algebra_basis(form: np.ndarray) -> list[np.ndarray]:
    """All X = B^-1 S with S skew for a symmetric form, symmetric for a skew one."""
    sign = 1 if np.allclose(form, form.T) else -1
    basis = []
    for i in range(D):
        for j in range(i + (sign > 0), D):
            s = np.zeros((D, D))
            s[i, j], s[j, i] = 1, -sign
            basis.append(np.linalg.solve(form, s))
    return basis


def planted(kind: str, seed: int, size: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A form, embeddings, and a member of its group."""
    rng, form = np.random.default_rng(seed), form_of(kind)
    basis = algebra_basis(form)
    algebra = sum(c * x / np.linalg.norm(x) for c, x in zip(rng.standard_normal(len(basis)), basis, strict=True))
    return form, rng.standard_normal((N, D)) / np.sqrt(D), scipy.linalg.expm(size * algebra)


def defect(member, form):
    """How far it is from being a member, beside rounding's share."""
    return np.max(np.abs(member.T @ form @ member - form)) / np.linalg.norm(form) / max(1, np.sum(member**2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_member_is_recovered(kind, seed):
    form, f, true = planted(kind, seed)
    assert defect(true, form) < 1e-14 and np.linalg.norm(f @ true.T - f) > 1
    member, error = search64(f, f @ true.T, form)
    np.testing.assert_allclose(member, true, atol=1e-9)
    assert error < 1e-9 and defect(member, form) < 1e-14
    # The polar factor alone is it.
    np.testing.assert_allclose(search64(f, f @ true.T, form, max_steps=0)[0], true, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_against_scipy(kind):
    """SciPy's least squares, started from the true member, finds nothing better."""
    form, f, true = planted(kind, 3)
    fa = f @ true.T + 0.1 * np.random.default_rng(4).standard_normal((N, D))
    member, error = search64(f, fa, form)
    basis = np.stack(algebra_basis(form))

    def miss(coordinates):
        return (f @ (scipy.linalg.expm(np.tensordot(coordinates, basis, 1)) @ true).T - fa).ravel()

    best = np.sqrt(2 * scipy.optimize.least_squares(miss, np.zeros(len(basis)), xtol=1e-12).cost)
    np.testing.assert_allclose(error, best, rtol=1e-7)
    np.testing.assert_allclose(error, np.linalg.norm(f @ member.T - fa), rtol=1e-12)
    assert error < np.linalg.norm(f @ true.T - fa) and defect(member, form) < 1e-14


@pytest.mark.parametrize("kind", KINDS)
def test_unrelated_embeddings_reach_a_minimum(kind):
    """No neighbour on the group is better, far from any exact fit too, where Gauss and Newton would creep."""
    form, f, _ = planted(kind, 5)
    fa = np.random.default_rng(6).permutation(f)
    member, error = search64(f, fa, form)
    assert defect(member, form) < 1e-13
    assert error < 0.99 * np.linalg.norm(f - fa)
    for x in algebra_basis(form):
        for step in (1e-3, -1e-3):
            x = x / np.linalg.norm(x)
            assert np.linalg.norm(f @ (scipy.linalg.expm(step * x) @ member).T - fa) > error
    # The curvature of the residual counts: without it, twenty steps would not do.
    np.testing.assert_allclose(search64(f, fa, form, max_steps=8)[1], error, rtol=1e-12)
    assert error <= search64(f, fa, form, max_steps=3)[1] <= search64(f, fa, form, max_steps=0)[1]


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("data", ["noisy", "random"])
def test_the_inner_product_is_wahba(data, determinant):
    form, f, true = planted("orthogonal", 7)
    true[:, 0] *= determinant
    noise = np.random.default_rng(8).standard_normal((N, D))
    fa = f @ true.T + 0.3 * noise if data == "noisy" else noise
    with jax.enable_x64(True):
        rotation, expected = jitted_wahba(f, fa)
    member, error = search64(f, fa, form)
    np.testing.assert_allclose(error, expected, rtol=1e-9)
    np.testing.assert_allclose(member, rotation, atol=1e-4)
    _, error = search(f, fa, form, 60)  # float32
    np.testing.assert_allclose(error, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_the_form_does_not_matter(kind):
    form, f, true = planted(kind, 9)
    fa = f @ true.T + 0.05 * np.random.default_rng(10).standard_normal((N, D))
    expected = search64(f, fa, form)
    for scale in (-1, 1e6, 1e-6):
        member, error = search64(f, fa, scale * form)
        np.testing.assert_allclose(member, expected[0], atol=1e-6)
        np.testing.assert_allclose(error, expected[1], rtol=1e-9)


@pytest.mark.parametrize("kind", ["lorentz", "symplectic", "skew"])
def test_degenerate_embeddings(kind):
    """Of low rank, collapsed, zero: a member, no worse than the identity, and never NaN."""
    form, f, true = planted(kind, 11)
    low_rank = f.copy()
    low_rank[:, 2:] = 0
    low_rank[3:] = 0  # as three rows would be
    one = np.tile(f[:1], (N, 1))
    cases = [(low_rank, low_rank @ true.T), (one, one @ true.T), (one, -one), (f, 0 * f), (f, -f), (0 * f, f), (f, f)]
    # Time and space exchanged: where this has no polar factor, the iteration wanders.
    cases.append((f, f[:, [1, 0, *range(2, D)]]))
    for f, fa in cases:
        member, error = search64(f, fa, form)
        assert np.all(np.isfinite(member)) and defect(member, form) < 1e-12
        assert error <= np.linalg.norm(f - fa) * (1 + 1e-12)
        np.testing.assert_allclose(error, np.linalg.norm(f @ member.T - fa), rtol=1e-6, atol=1e-9)
        member, error = search(f, fa, form, 60)  # float32
        assert np.all(np.isfinite(member)) and defect(np.float64(member), form) < 1e-4
        assert error <= np.linalg.norm(f - fa) * (1 + 1e-5)
    assert search64(low_rank, low_rank @ true.T, form)[1] < 1e-6
    np.testing.assert_array_equal(search64(0 * f, f, form)[0], np.eye(D))


def test_broken_embeddings_show():
    form, f, _ = planted("lorentz", 12)
    fa = f.copy()
    fa[3, 2] = np.nan
    assert np.isnan(search64(f, fa, form)[1]) and np.isnan(search64(fa, f, form)[1])


@pytest.mark.parametrize("kind", ["lorentz", "symplectic"])
def test_single_precision_half_precision_and_eight_devices(kind):
    form, f, true = planted(kind, 13)
    fa = f @ true.T + 0.1 * np.random.default_rng(14).standard_normal((N, D))
    expected, expected_error = search64(f, fa, form)
    halves = [jnp.asarray(x, jnp.bfloat16).astype(jnp.float32) for x in (f, fa)]
    for (a, b), tolerance in (((f, fa), 1e-5), (halves, 1e-2)):
        member, error = search(a, b, form, 60)
        assert member.dtype == error.dtype == jnp.float32
        np.testing.assert_allclose(member, expected, atol=30 * tolerance)
        np.testing.assert_allclose(error, expected_error, rtol=tolerance)
    if kind == "symplectic":
        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
        _, error = search(*jax.device_put([np.float32(f), np.float32(fa)], rows), form, 60)
        np.testing.assert_allclose(error, expected_error, rtol=1e-5)


def test_matrix_products_are_exact_and_half_precision_is_not_used():
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((N, D), (N, D), (D, D))]
    program = str(jax.make_jaxpr(search)(*arguments, 60))
    products = program.count("dot_general")  # but for those inside of JAX's own least squares
    assert products - program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") <= 1
    assert [x.dtype for x in jax.eval_shape(search, *arguments, 60)] == [jnp.float32, jnp.float32]


def test_errors_name_the_value():
    f, form = np.ones((4, 3)), np.diag([-1.0, 1.0, 1.0])
    skew = np.array([[0.0, 1, 0], [-1, 0, 2], [0, -2, 0]])  # skew of odd size
    for arguments, bad_form, message in [
        ((f, f[:3]), form, r"^group_residual: .* got f \(4, 3\) and fa \(3, 3\)"),
        ((f[:0], f[:0]), form, r"got f \(0, 3\)"),
        ((f, f), np.eye(4), r"form must be \[d, d\] with d = 3.*; got \(4, 4\)"),
        ((f, f), np.ones(3), r"got \(3,\)"),
        ((f, f), form + np.eye(3, k=1), "form must be symmetric or skew; it is off by 1$"),
        ((f, f), form * np.nan, "form must be symmetric or skew; it is off by nan"),
        ((f, f), skew, "form must not be degenerate; got rank 2 of 3"),
        ((f, f), 0 * form, "form must not be degenerate; got rank 0 of 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            metrics.group_residual(*arguments, form=bad_form)
