"""How far an augmentation is from acting as one member of the group that keeps a bilinear form.

The group of a form B is {R : R' B R = B}: O(d) for B = I, the Lorentz group O(1, d-1) for diag(-1, 1, ..., 1), the
symplectic group Sp(d) for [[0, I], [-I, 0]]. Every member near R is C(X) R, with X in the Lie algebra
{X : X' B + B X = 0} and C Cayley's map.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from care_jax.losses.arrays import matmul
from care_jax.metrics.rotations import named_pair

_POLAR_STEPS = 40  # Each halves the size of what is too large; the last few double the digits.
_CONJUGATE_GRADIENT_STEPS = 40
# y, what is left of the slope there, the direction to go on, whether y left the ball, the number of iterations.
_Conjugate = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


class _Search(NamedTuple):
    """A member on its way down."""

    member: jax.Array  # [d, d]
    cost: jax.Array  # Half its squared error.
    radius: jax.Array  # How far a step may move the embeddings, to first order.
    num_steps: jax.Array
    converged: jax.Array


def group_residual(f: ArrayLike, fa: ArrayLike, *, form: ArrayLike, max_steps: int = 60) -> tuple[jax.Array, jax.Array]:
    """The member of a form's group that carries `f` to `fa` as well as could be found, and how far it misses.

        min || f R' - fa ||_F   over   {R : R' B R = B}

    Beyond O(d) there is no closed form, and other groups are not compact: this is a LOCAL minimum found from good
    starts, so the error is an upper bound of the least. It is zero, up to rounding, for embeddings of full rank that
    a member carries exactly. For B = I it is `wahba(special=False)`, which is exact and far cheaper.

    The starts are the identity and the generalised polar factor of the least-squares map (left out where its iteration
    does not converge); each is refined by Newton steps in a trust region, on the group, and the better is returned.
    The result is not differentiable in reverse mode.

    Args:
      f: Embeddings f(x_i), [n, d].
      fa: Embeddings f(a(x_i)), [n, d].
      form: B, [d, d]: symmetric or skew, and not degenerate.
      max_steps: Newton steps from each start at the most; a dozen are typical.

    Returns:
      (member [d, d], error []): `fa` is close to `f @ member.T`, and error is their Frobenius distance.

    Raises:
      ValueError: If the embeddings' shapes differ or are not [n, d]; if `form` is not [d, d]; if it is neither
        symmetric nor skew, or degenerate (a form that jit traces is not examined).

    Example:
      >>> import jax.numpy as jnp
      >>> boost = jnp.array([[1.25, 0.75], [0.75, 1.25]])  # keeps t^2 - x^2
      >>> f = jnp.array([[1.0, 0.0], [1.0, 0.5], [2.0, -1.0]])
      >>> member, error = group_residual(f, f @ boost.T, form=jnp.diag(jnp.array([-1.0, 1.0])))
      >>> bool(jnp.allclose(member, boost, atol=1e-4)), bool(error < 1e-4)
      (True, True)

    Source: CARE, section 3.2 (other groups). Polar factor: Higham, Mackey, Mackey and Tisseur 2004 ("Computing the
    polar decomposition and the matrix sign decomposition in matrix groups"). Steps: Steihaug 1983.
    """
    f, fa = named_pair("group_residual", f=f, fa=fa)
    form = _as_form(form, f)
    identity = jnp.eye(f.shape[1], dtype=f.dtype)
    # The map that is the identity where f has no rows: of all least-squares maps, the nearest to it.
    least_squares = identity + jnp.linalg.lstsq(f, fa - f)[0].T
    starts = jnp.stack([identity, _polar_factor(least_squares, form)])
    members = jax.lax.map(lambda start: _refined(start, f, fa, form, max_steps), starts)
    errors = jnp.linalg.norm(matmul(f, members.mT) - fa, axis=(1, 2))
    best = jnp.where(errors[1] < errors[0], 1, 0)
    member, error = members[best], errors[best]
    return jnp.where(jnp.isnan(error), jnp.nan, member), error  # a start is not what a search for NaN has found


def _polar_factor(x: jax.Array, form: jax.Array) -> jax.Array:
    """The group's member in x = member * (a map that is its own adjoint); the identity if the iteration fails."""
    inverse_form = jnp.linalg.inv(form)

    def newton(_: int, x: jax.Array) -> jax.Array:
        return (x + matmul(matmul(inverse_form, jnp.linalg.inv(x).T), form)) / 2

    x = jax.lax.fori_loop(0, _POLAR_STEPS, newton, x)
    defect = jnp.linalg.norm(matmul(matmul(x.T, form), x) - form)
    # Not `not >`: a NaN, as a singular map gives, must fail.
    is_member = defect <= 1e-3 * jnp.linalg.norm(form) * jnp.maximum(1.0, jnp.sum(x**2) / len(x))
    return jnp.where(is_member, x, jnp.eye(len(x), dtype=x.dtype))


def _refined(start: jax.Array, f: jax.Array, fa: jax.Array, form: jax.Array, max_steps: int) -> jax.Array:
    """A local minimum down from `start`, by Newton steps in a trust region; no step is taken that raises the error."""
    epsilon = jnp.finfo(f.dtype).eps
    identity = jnp.eye(len(form), dtype=f.dtype)
    inverse_form = jnp.linalg.inv(form)

    def cost_of(member: jax.Array) -> jax.Array:
        return jnp.sum((matmul(f, member.T) - fa) ** 2) / 2

    def back_on_group(member: jax.Array) -> jax.Array:
        # One step of Newton and Schulz takes away what rounding added: the defect is squared.
        gram = matmul(matmul(inverse_form, member.T), matmul(form, member))
        return matmul(member, 3 * identity - gram) / 2

    def step(search: _Search) -> _Search:
        direction, predicted, length = _newton_step(matmul(f, search.member.T), fa, form, search.radius)
        cayley = jnp.linalg.solve(identity - direction / 2, identity + direction / 2)
        member = back_on_group(matmul(cayley, search.member))
        cost = cost_of(member)
        lower = cost < search.cost  # False for NaN
        gain = jnp.where(lower, (search.cost - cost) / predicted, 0.0)
        grown = jnp.where((gain > 0.75) & (length > 0.9 * search.radius), 2 * search.radius, search.radius)
        return _Search(
            member=jnp.where(lower, member, search.member),
            cost=jnp.where(lower, cost, search.cost),
            radius=jnp.where(gain < 0.25, length / 4, grown),
            num_steps=search.num_steps + 1,
            # Less than rounding can tell: either nothing more to gain, or only in steps that do nothing.
            converged=predicted <= epsilon * search.cost,
        )

    cost = cost_of(start)
    search = _Search(start, cost, jnp.sqrt(2 * cost), jnp.asarray(0), cost == 0)
    search = jax.lax.while_loop(lambda search: (search.num_steps < max_steps) & ~search.converged, step, search)
    return search.member


def _newton_step(
    g: jax.Array, fa: jax.Array, form: jax.Array, radius: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The step X of the Lie algebra that lowers ||g C(X)' - fa||^2 / 2 most, to second order, within the radius.

    With C(X) = I + X + X^2 / 2 + ... and r = fa - g, the change is
        -<X, r'g> + <X, X g'g> / 2 - <X X, r'g> / 2.
    Every X is S B, with S skew for symmetric B and symmetric for skew B. In S the second term, Gauss and Newton's,
    is Sylvester's operator (S N + N S) / 2 with N = B g'g B', diagonal in the basis of N's eigenvectors. Coordinates
    y scaled by its square root make it the identity: conjugate gradients then converge in a few iterations, and
    |y| = ||g X'||_F is how far the step moves the embeddings.

    Returns:
      (X [d, d], the decrease that this model predicts, |y|).
    """
    residual = fa - g
    gram, cross = matmul(g.T, g), matmul(residual.T, g)
    sign = jnp.where(jnp.linalg.norm(form - form.T) <= jnp.linalg.norm(form + form.T), 1.0, -1.0).astype(g.dtype)
    values, vectors = jnp.linalg.eigh(matmul(matmul(form, gram), form.T))
    values = jnp.maximum(values, 0.0) + 10 * jnp.finfo(g.dtype).eps * values[-1] + jnp.finfo(g.dtype).tiny
    scale = jax.lax.rsqrt((values[:, None] + values) / 2)

    # The upper triangle alone is the unknown: were y a whole matrix, rounding would leave it a part outside the
    # algebra, where the model is flat and the search would run off.
    d = len(form)
    weights = jnp.triu(jnp.full((d, d), 0.5**0.5, g.dtype), k=1) + (1 - sign) / 4 * jnp.eye(d, dtype=g.dtype)

    def to_algebra(y: jax.Array) -> jax.Array:
        half = weights * y
        return matmul(matmul(matmul(vectors, scale * (half - sign * half.T)), vectors.T), form)

    def to_coordinates(x: jax.Array) -> jax.Array:  # the adjoint of to_algebra
        whole = scale * matmul(matmul(vectors.T, matmul(x, form.T)), vectors)
        return weights * (whole - sign * whole.T)

    def hessian(y: jax.Array) -> jax.Array:
        x = to_algebra(y)
        return to_coordinates(matmul(x, gram) - (matmul(cross, x.T) + matmul(x.T, cross)) / 2)

    y, predicted = _minimum_in_ball(hessian, to_coordinates(cross), radius)
    return to_algebra(y), predicted, jnp.linalg.norm(y)


def _minimum_in_ball(
    hessian: Callable[[jax.Array], jax.Array], slope: jax.Array, radius: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """y of |y| <= radius that maximises <slope, y> - <y, hessian y> / 2, roughly, and that maximum.

    Conjugate gradients; on the first direction of negative curvature, or that leaves the ball, to the ball's surface.
    """

    def going(state: _Conjugate) -> jax.Array:
        _, remainder, _, left, iteration = state
        return (iteration < _CONJUGATE_GRADIENT_STEPS) & ~left & (jnp.sum(remainder**2) > 1e-6 * jnp.sum(slope**2))

    def iterate(state: _Conjugate) -> _Conjugate:
        y, remainder, direction, _, iteration = state
        bent = hessian(direction)
        curvature, squared = jnp.sum(direction * bent), jnp.sum(direction**2)
        length = jnp.sum(remainder**2) / jnp.where(curvature > 0, curvature, 1.0)
        left = (curvature <= 0) | (jnp.sum((y + length * direction) ** 2) >= radius**2)
        along = jnp.sum(y * direction)
        room = jnp.maximum(radius**2 - jnp.sum(y**2), 0.0)
        length = jnp.where(left, (jnp.sqrt(along**2 + squared * room) - along) / squared, length)
        new_remainder = remainder - length * bent
        growth = jnp.sum(new_remainder**2) / jnp.sum(remainder**2)
        return y + length * direction, new_remainder, new_remainder + growth * direction, left, iteration + 1

    state = jnp.zeros_like(slope), slope, slope, jnp.asarray(False), jnp.asarray(0)
    y, remainder, *_ = jax.lax.while_loop(going, iterate, state)
    return y, jnp.sum(y * (slope + remainder)) / 2


def _as_form(form: ArrayLike, f: jax.Array) -> jax.Array:
    """The form as a checked array of the embeddings' type, of norm sqrt(d): its scale does not change its group."""
    d = f.shape[1]
    if jnp.shape(form) != (d, d):
        raise ValueError(f"group_residual: form must be [d, d] with d = {d}, as the embeddings; got {jnp.shape(form)}")
    if not isinstance(form, jax.core.Tracer):
        values = np.asarray(form, np.float64)
        asymmetry, size = min(np.abs(values - values.T).max(), np.abs(values + values.T).max()), np.abs(values).max()
        if not asymmetry <= 1e-6 * size:
            raise ValueError(f"group_residual: form must be symmetric or skew; it is off by {asymmetry:.3g}")
        rank = np.linalg.matrix_rank(values)
        if rank < d:
            raise ValueError(f"group_residual: form must not be degenerate; got rank {rank} of {d}")
    form = jnp.asarray(form, f.dtype)
    return form * jnp.sqrt(d) / jnp.linalg.norm(form)
