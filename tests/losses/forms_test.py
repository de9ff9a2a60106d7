"""Forms, and what `equivariance_loss` makes of them: random members of their groups, and of no group."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from care_jax.losses import equivariance_loss, hyperboloid, lorentz_form, symplectic_form

D = 6
N = 24  # in two groups of more inputs than dimensions
FORMS = {"lorentz": np.asarray(lorentz_form(D), np.float64), "symplectic": np.asarray(symplectic_form(D), np.float64)}
jitted_loss = jax.jit(equivariance_loss, static_argnames="num_groups")
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=10, deadline=None, database=None)


def embeddings(kind: str, rng: np.random.Generator, n: int = N) -> np.ndarray:
    """On the hyperboloid for the Lorentz form; unit rows for the symplectic, which keeps no surface."""
    if kind == "lorentz":
        return np.asarray(hyperboloid(rng.standard_normal((n, D - 1))))
    z = rng.standard_normal((n, D))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def random_member(kind: str, rng: np.random.Generator) -> np.ndarray:
    """exp of a random element X of the Lie algebra: X' B + B X = 0."""
    a = rng.standard_normal((D, D)) / 3
    algebra = np.linalg.inv(FORMS[kind]) @ (a - a.T if kind == "lorentz" else a + a.T)
    return scipy.linalg.expm(algebra)


def loops(z1, z2, num_groups, form):
    total, n = 0.0, len(z1) // num_groups
    for start in range(0, len(z1), n):
        for i in range(start, start + n):
            for j in range(start, start + n):
                if i != j:
                    total += 2 / n * (z1[i] @ form @ z1[j] - z2[i] @ form @ z2[j]) ** 2
    return total / num_groups


def test_the_forms():
    np.testing.assert_array_equal(lorentz_form(3), [[-1, 0, 0], [0, 1, 0], [0, 0, 1]])
    expected = [[0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0]]
    np.testing.assert_array_equal(symplectic_form(4), expected)
    for x64, dtype in ((True, jnp.float64), (False, jnp.float32)):
        with jax.enable_x64(x64):
            assert jax.eval_shape(lambda: (lorentz_form(2), symplectic_form(2)))[1].dtype == dtype


@few
@given(seeds)
def test_hyperboloid_points(seed):
    x = np.random.default_rng(seed).standard_normal((2, 5, D - 1)) * 3
    with jax.enable_x64(True):
        f = np.asarray(hyperboloid(x))
    assert f.dtype == np.float64 and f.shape == (2, 5, D) and np.all(f[..., 0] >= 1)
    np.testing.assert_array_equal(f[..., 1:], x)
    np.testing.assert_allclose(np.einsum("...d,de,...e->...", f, FORMS["lorentz"], f), -1, rtol=1e-12)


def test_hyperboloid_gradient_and_types():
    with jax.enable_x64(True):
        check_grads(jax.jit(hyperboloid), (jnp.asarray([[0.0, 0.0], [1.0, -2.0]]),), order=1, modes=["rev"], rtol=1e-6)
    assert hyperboloid(jnp.ones(3, jnp.bfloat16)).dtype == jnp.float32
    np.testing.assert_allclose(hyperboloid(np.array([2, 2])), [3, 2, 2], rtol=1e-6)  # integers too


@few
@given(st.sampled_from(sorted(FORMS)), seeds)
def test_members_of_the_group_cost_nothing(kind, seed):
    rng, form = np.random.default_rng(seed), FORMS[kind]
    with jax.enable_x64(True):
        z = embeddings(kind, rng)
        members = [random_member(kind, rng) for _ in range(2)]
        for member in members:
            np.testing.assert_allclose(member.T @ form @ member, form, atol=1e-9 * np.sum(member**2))
        moved = np.concatenate([half @ member.T for half, member in zip(np.split(z, 2), members, strict=True)])
        scale = np.sum(z**2) ** 2 + np.sum(moved**2) ** 2
        assert abs(jitted_loss(z, moved, num_groups=2, form=form)) < 1e-12 * scale
        # One member for both groups there is not.
        assert jitted_loss(z, moved, num_groups=1, form=form) > 1e-3
        if kind == "lorentz":  # the images stay on their sheet
            on_form = np.einsum("nd,de,ne->n", moved, form, moved)
            np.testing.assert_allclose(on_form, -1, atol=1e-10 * np.max(np.sum(moved**2, axis=1)))
            assert np.all(moved[:, 0] >= 1)


@few
@given(st.sampled_from(sorted(FORMS)), seeds)
def test_other_maps_cost(kind, seed):
    rng, form = np.random.default_rng(seed), FORMS[kind]
    with jax.enable_x64(True):
        z = embeddings(kind, rng)
        orthogonal = np.linalg.qr(rng.standard_normal((D, D)))[0]
        for outsider in (np.eye(D) + rng.standard_normal((D, D)) / 3, orthogonal, 1.1 * np.eye(D)):
            moved = z @ outsider.T
            value = jitted_loss(z, moved, num_groups=2, form=form)
            assert value > 1e-3
            np.testing.assert_allclose(value, loops(z, moved, 2, form), rtol=1e-8)


@pytest.mark.parametrize(("kind", "num_groups"), [("lorentz", 1), ("symplectic", 4)])
def test_gradients(kind, num_groups):
    """By both views and by the form itself, in groups larger than d and not."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        views = [jnp.asarray(embeddings(kind, rng, 12)) for _ in range(2)]
        loss = jax.jit(lambda z1, z2, form: equivariance_loss(z1, z2, num_groups=num_groups, form=form))
        check_grads(loss, (*views, jnp.asarray(FORMS[kind])), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("kind", FORMS)
def test_the_gradient_is_zero_on_the_orbit(kind):
    """A member is a minimum, not only a zero."""
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        z = embeddings(kind, rng)
        gradient = jax.jit(jax.grad(partial(equivariance_loss, num_groups=1, form=FORMS[kind]), (0, 1)))
        for g in gradient(z, z @ random_member(kind, rng).T):
            assert np.max(np.abs(g)) < 1e-9


def test_errors_name_the_value():
    for d in (1, 0, -4):
        with pytest.raises(ValueError, match=f"lorentz_form: d must be at least 2; got {d}$"):
            lorentz_form(d)
    for d in (3, 0, -2, 1):
        with pytest.raises(ValueError, match=f"symplectic_form: d must be even and at least 2; got {d}$"):
            symplectic_form(d)
    for x in (np.ones((3, 0)), np.float32(1)):
        with pytest.raises(ValueError, match=r"hyperboloid: x must be .*; got shape \("):
            hyperboloid(x)
