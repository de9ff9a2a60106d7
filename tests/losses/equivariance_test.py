"""L_equi: the official numbers, loops in float64, the maps that keep it at zero, both branches, precision, devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from care_jax.losses import equivariance, equivariance_loss

# One compilation a shape; without it every operation of every shape compiles on its own.
jitted_loss = jax.jit(equivariance_loss, static_argnames="num_groups")

D = 6
# (rows, groups): groups smaller than D, as large, one larger, much larger, and of a single input.
SIZES = [(12, 3), (12, 2), (14, 2), (40, 2), (4, 4)]


def rows(seed: int, n: int, d: int = D) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def orthogonal(seed: int, d: int = D) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def form_of(kind: str, d: int = D) -> np.ndarray | None:
    general = np.random.default_rng(7).standard_normal((d, d))
    half = np.eye(d // 2)
    return {
        "none": None,
        "symmetric": general + general.T,
        "skew": general - general.T,
        "general": general,
        "lorentz": np.diag([-1.0] + [1.0] * (d - 1)),
        "symplectic": np.block([[0 * half, half], [-half, 0 * half]]),
    }[kind]


def loops(z1, z2, num_groups, form=None):
    """The official loss as its definition reads."""
    form = np.eye(z1.shape[1]) if form is None else form
    n = len(z1) // num_groups
    total = 0.0
    for group in range(num_groups):
        members = range(group * n, (group + 1) * n)
        changes = [(z1[i] @ form @ z1[j] - z2[i] @ form @ z2[j]) ** 2 for i in members for j in members if i != j]
        total += 2 * sum(changes) / n
    return total / num_groups


def assert_close(actual, expected, rtol):
    """Relative to the largest entry: an entry of a gradient may be small because large terms cancel in it."""
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.max(np.abs(expected)))


@partial(jax.jit, static_argnums=2)
def both_branches(z1, z2, num_groups, form=None):
    total, difference = ((z1 + sign * z2).reshape(num_groups, -1, z1.shape[1]) for sign in (1, -1))
    branches = equivariance._squared_change_in_pairs, equivariance._squared_change_in_coordinates
    return [2 / len(z1) * branch(total, difference, form) for branch in branches]


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("case", range(5))
def test_official_values_and_gradients(golden, case, x64, rtol):
    numbers = golden("losses")
    with jax.enable_x64(x64):
        views = [jnp.asarray(numbers[f"{case}/z{view}"]) for view in (1, 2)]
        loss = partial(equivariance_loss, num_groups=int(numbers[f"{case}/num_groups"]))
        value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(*views)
    assert value.dtype == (jnp.float64 if x64 else jnp.float32)
    np.testing.assert_allclose(value, numbers[f"{case}/equivariance"], rtol=rtol)
    for view, gradient in zip((1, 2), gradients, strict=True):
        assert_close(gradient, numbers[f"{case}/equivariance_grad_z{view}"], rtol)


@pytest.mark.parametrize("kind", ["none", "symmetric", "skew", "general"])
@pytest.mark.parametrize(("n", "num_groups"), SIZES)
def test_loops(n, num_groups, kind):
    z1, z2, form = rows(0, n) * 1.3, rows(1, n), form_of(kind)  # not unit rows: the diagonal must come off too
    with jax.enable_x64(True):
        actual = jitted_loss(z1, z2, num_groups=num_groups, form=form)
    np.testing.assert_allclose(actual, loops(z1, z2, num_groups, form), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("n", "num_groups"), SIZES)
def test_identity_form_is_the_inner_product(n, num_groups):
    z1, z2 = rows(2, n), rows(3, n)
    with jax.enable_x64(True):
        plain = jitted_loss(z1, z2, num_groups=num_groups)
        with_form = jitted_loss(z1, z2, num_groups=num_groups, form=np.eye(D))
    np.testing.assert_allclose(with_form, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("n", "num_groups"), SIZES)
def test_zero_under_every_orthogonal_map(n, num_groups):
    z = rows(4, n)
    with jax.enable_x64(True):
        # Each group has a map of its own, and reflections count: det is -1 for half the seeds.
        moved = np.concatenate([part @ orthogonal(k) for k, part in enumerate(np.split(z, num_groups))])
        loss = partial(jitted_loss, z, moved)
        assert abs(loss(num_groups=num_groups)) < 1e-13
        if num_groups > 1:
            assert loss(num_groups=1) > 0.1
    assert abs(jitted_loss(z, moved, num_groups=num_groups)) < 1e-5  # float32


@pytest.mark.parametrize("kind", ["lorentz", "symplectic"])
@pytest.mark.parametrize(("n", "num_groups"), [(12, 3), (40, 2)])
def test_zero_under_the_stabiliser_of_the_form(kind, n, num_groups):
    form, z = form_of(kind), rows(5, n)
    a = np.random.default_rng(6).standard_normal((D, D)) / 4
    # Generators K with K B + B K' = 0: skew times B^-1 if B is symmetric, symmetric times B^-1 if it is skew.
    member = scipy.linalg.expm((a - a.T if kind == "lorentz" else a + a.T) @ np.linalg.inv(form))
    np.testing.assert_allclose(member @ form @ member.T, form, atol=1e-12)
    with jax.enable_x64(True):
        loss = partial(jitted_loss, num_groups=num_groups)
        assert abs(loss(z, z @ member, form=form)) < 1e-12
        assert loss(z, z @ member) > 0.1
        assert loss(z, z @ orthogonal(8), form=form) > 0.1


def test_collapse():
    """Constant views keep all inner products; a constant view against orthonormal or antipodal rows does not."""
    with jax.enable_x64(True):
        for n, num_groups in SIZES:
            one, other = (np.tile(rows(seed, 1), (n, 1)) for seed in (9, 10))
            assert abs(jitted_loss(one, other, num_groups=num_groups)) < 1e-13
        one = np.tile(rows(9, 1), (D, 1))
        np.testing.assert_allclose(jitted_loss(one, np.eye(D), num_groups=1), 2 * (D - 1), rtol=1e-12)
        # +e_k and -e_k, n = 2d: each row has one inner product -1 and 2d - 2 of 0, where the other view has 1.
        cross_polytope = np.concatenate([np.eye(D), -np.eye(D)])
        one = np.tile(rows(9, 1), (2 * D, 1))
        np.testing.assert_allclose(jitted_loss(one, cross_polytope, num_groups=1), 4 * D + 4, rtol=1e-12)


@pytest.mark.parametrize(("n", "num_groups"), [(12, 3), (14, 2)])
def test_symmetries(n, num_groups):
    z1, z2 = rows(11, n), rows(12, n)
    rotation, rng = orthogonal(13), np.random.default_rng(14)
    members = np.arange(n).reshape(num_groups, -1)
    inside = np.concatenate([rng.permutation(group) for group in members])
    groups = members[::-1].reshape(-1)
    across = np.roll(np.arange(n), 1)
    with jax.enable_x64(True):
        loss = partial(jitted_loss, num_groups=num_groups)
        value = loss(z1, z2)
        np.testing.assert_allclose(loss(z2, z1), value, rtol=1e-12)
        np.testing.assert_allclose(loss(z1 @ rotation, z2 @ rotation), value, rtol=1e-11)
        np.testing.assert_allclose(loss(z1 @ rotation, z2), value, rtol=1e-11)
        np.testing.assert_allclose(loss(z1[inside], z2[inside]), value, rtol=1e-11)
        np.testing.assert_allclose(loss(z1[groups], z2[groups]), value, rtol=1e-11)
        assert abs(loss(z1[across], z2[across]) / value - 1) > 1e-3


@pytest.mark.parametrize("kind", ["none", "symmetric", "skew", "general"])
@pytest.mark.parametrize("n", [D - 1, D + 1])
def test_branches_agree(n, kind):
    with jax.enable_x64(True):
        views, form = [rows(seed, 2 * n) for seed in (15, 16)], form_of(kind)
        pairs, coordinates = both_branches(*views, 2, form)
        np.testing.assert_allclose(pairs, coordinates, rtol=1e-11)


def test_larger_groups_need_no_array_of_pairs():
    for n, absent in ((5 * D, f"{5 * D},{5 * D}"), (D - 2, f"{D},{D}")):
        view = jax.ShapeDtypeStruct((3 * n, D), jnp.float32)
        step = jax.value_and_grad(partial(equivariance_loss, num_groups=3), (0, 1))
        assert absent not in str(jax.make_jaxpr(step)(view, view))


@pytest.mark.parametrize(("n", "products"), [(D, 1), (D + 1, 3)])
def test_only_a_form_pays_for_a_form(n, products):
    loss, z = partial(equivariance_loss, num_groups=1), np.ones((n, D))
    assert str(jax.make_jaxpr(loss)(z, z)).count("dot_general") == products
    assert str(jax.make_jaxpr(partial(loss, form=np.eye(D)))(z, z)).count("dot_general") > products


@pytest.mark.parametrize("kind", ["none", "lorentz"])
@pytest.mark.parametrize(("n", "d"), [(16, 32), (96, 32)])
def test_close_views_keep_their_digits_in_float32(n, d, kind):
    """As views approach, the loss falls below the rounding of a Gram matrix; it must not fall below its own."""
    z, form = rows(17, n, d), form_of(kind, d)
    for distance in (1e-3, 1e-6):
        near = (z + distance * rows(18, n, d)).astype(np.float32)
        far = z.astype(np.float32)
        exact = loops(far.astype(np.float64), near.astype(np.float64), 1, form)
        actual = jitted_loss(far, near, num_groups=1, form=form)
        np.testing.assert_allclose(actual, exact, rtol=1e-4)
        if distance == 1e-6 and form is None:
            naive = (far @ far.T - near @ near.T) ** 2 * (1 - np.eye(n))
            assert abs(2 / n * np.sum(naive) / exact - 1) > 1e-3


@pytest.mark.parametrize("kind", ["none", "general"])
@pytest.mark.parametrize("n", [8, 16])
def test_gradients(n, kind):
    with jax.enable_x64(True):
        views, form = [jnp.asarray(rows(seed, n)) for seed in (19, 20)], form_of(kind)
        loss = partial(equivariance_loss, num_groups=2, form=form)
        check_grads(jax.jit(loss), views, order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize(("num_groups", "kind"), [(4, "none"), (8, "none"), (16, "none"), (4, "symplectic")])
def test_eager_jit_and_eight_devices_agree(num_groups, kind):
    """64 rows: 4 groups span two devices each (and n > d), 8 fill one each, 16 share."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    by_rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    views = [jnp.asarray(rows(seed, 64, 8), jnp.float32) for seed in (21, 22)]
    loss = partial(equivariance_loss, num_groups=num_groups, form=form_of(kind, 8))
    compiled = jax.jit(jax.value_and_grad(loss, (0, 1)))
    jitted, on_eight = compiled(*views), compiled(*(jax.device_put(z, by_rows) for z in views))
    jax.tree.map(partial(assert_close, rtol=2e-6), on_eight, jitted)
    assert_close(loss(*views), jitted[0], rtol=2e-6)
    assert all(gradient.sharding.is_equivalent_to(by_rows, 2) for gradient in on_eight[1])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("num_groups", [1, 4])
def test_half_precision_is_accumulated_in_float32(num_groups, dtype):
    views = [jnp.asarray(rows(seed, 16), dtype) for seed in (23, 24)]
    half = jitted_loss(*views, num_groups=num_groups)
    assert half.dtype == jnp.float32
    exact = loops(*(np.asarray(z, np.float64) for z in views), num_groups)
    np.testing.assert_allclose(half, exact, rtol=1e-6)


@pytest.mark.parametrize("n", [4, 10])
@pytest.mark.parametrize("kind", ["none", "general"])
def test_matrix_products_are_exact(n, kind):
    loss = partial(equivariance_loss, num_groups=1, form=form_of(kind))
    program = str(jax.make_jaxpr(jax.value_and_grad(loss, (0, 1)))(*[jnp.asarray(rows(s, n)) for s in (25, 26)]))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 0


def test_errors_name_the_value():
    z = np.ones((12, 4))
    for num_groups in (0, -2, 5, 24):
        with pytest.raises(ValueError, match=f"divide the 12 rows of z1; got {num_groups}$"):
            equivariance_loss(z, z, num_groups=num_groups)
    for form in (np.eye(3), np.ones((4, 3)), np.ones(4)):
        with pytest.raises(ValueError, match=rf"form must be \[d, d\] with d = 4.*got \({form.shape[0]},"):
            equivariance_loss(z, z, num_groups=2, form=form)
    with pytest.raises(ValueError, match=r"got z1 \(12, 4\) and z2 \(12, 3\)"):
        equivariance_loss(z, z[:, :3], num_groups=2)
    with pytest.raises(ValueError, match=r"got z1 \(12,\) and z2 \(12,\)"):
        equivariance_loss(z[:, 0], z[:, 0], num_groups=2)
    with pytest.raises(ValueError, match=r"got z1 \(0, 4\)"):
        equivariance_loss(z[:0], z[:0], num_groups=2)


def test_a_large_group_needs_little_memory():
    """n = 8,192 in one group, d = 128: a tenth of what the [n, n] Gram differences take, at the very most."""
    view = jax.ShapeDtypeStruct((8192, 128), jnp.float32)

    def temporary_bytes(loss) -> int:
        gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))
        return gradient.lower(view, view).compile().memory_analysis().temp_size_in_bytes

    def in_pairs(z1, z2):
        return 2 / 8192 * equivariance._squared_change_in_pairs((z1 + z2)[None], (z1 - z2)[None], None)

    assert temporary_bytes(partial(equivariance_loss, num_groups=1)) < temporary_bytes(in_pairs) / 10


def test_a_large_group_in_float32_agrees_with_its_pairs():
    z1, z2 = (rows(seed, 1024, 16).astype(np.float32) for seed in (30, 31))
    in_pairs, in_coordinates = both_branches(z1, z2, 1)
    np.testing.assert_allclose(in_coordinates, in_pairs, rtol=1e-5)
