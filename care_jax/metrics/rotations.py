"""How an augmentation moves embeddings: the best rotation, whether rotations compose, whether distances are kept.

`f` [n, d] holds the embeddings f(x_i) in rows, `fa` [n, d] the embeddings f(a(x_i)) under ONE augmentation a.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_pair, matmul

_PAIR_ROWS = 256  # Rows of pairs in memory at a time: 10 MB an intermediate for 10,000 columns in float32.


def wahba(f: ArrayLike, fa: ArrayLike, *, special: bool = True) -> tuple[jax.Array, jax.Array]:
    """The rotation that best carries `f` to `fa`, and how far it misses (Wahba's problem, orthogonal Procrustes).

        R = argmin ||f R' - fa||_F over SO(d), or over O(d) with special=False
        fa' f = U S V'   ->   R = U diag(1, ..., 1, det U det V) V',   in O(d): R = U V'

    error / sqrt(n) is the root-mean-square miss of one embedding. With fewer than d independent rows R is one of
    many minimisers, and SO(d) fits as well as O(d).

    Gradients: R minimises the error, so the error's gradient is the one with R held fixed, and nothing goes through the
    SVD. Where several R are best it is that of the one returned, and where the error is 0 it is 0: always finite. The
    gradient of R itself goes through the SVD, and is NaN where singular values of fa' f are equal.

    Args:
      f: Embeddings f(x_i), [n, d].
      fa: Embeddings f(a(x_i)), [n, d].
      special: True for rotations, SO(d); False to allow reflections too, O(d). Static under jit.

    Returns:
      (rotation [d, d], error []): `fa` is close to `f @ rotation.T`, and error is their Frobenius distance.

    Raises:
      ValueError: If the shapes differ, are not [n, d], or one of the axes is empty.

    Example:
      >>> import jax.numpy as jnp
      >>> f, quarter_turn = jnp.eye(2), jnp.array([[0.0, -1.0], [1.0, 0.0]])
      >>> rotation, error = wahba(f, f @ quarter_turn.T)
      >>> bool(jnp.allclose(rotation, quarter_turn)), bool(error < 1e-6)
      (True, True)

    Source: CARE, section 4 (Wahba's problem, solved by the SVD); its rows are our columns.
    """
    f, fa = named_pair("wahba", f=f, fa=fa)
    u, _, vt = jnp.linalg.svd(matmul(fa.T, f), full_matrices=False)
    if special:
        # The last singular value is the smallest: flipping its direction is the cheapest way back to det R = 1.
        handedness = jnp.sign(jnp.linalg.det(u) * jnp.linalg.det(vt))
        u = u.at[:, -1].multiply(handedness)
    rotation = matmul(u, vt)
    return rotation, _length(matmul(f, jax.lax.stop_gradient(rotation).T) - fa)


def composition_error(
    rotation_first: ArrayLike, rotation_second: ArrayLike, f: ArrayLike, f_composed: ArrayLike
) -> jax.Array:
    """How far R_second R_first is from carrying f(x) to f(a_second(a_first(x))).

        || f (R_second R_first)' - f_composed ||_F / || f_composed ||_F

    On unit rows this is the root-mean-square miss of one embedding: 0 is exact, sqrt(2) what unrelated directions
    give, 2 the opposite point. No rotation can do better than that of `wahba(f, f_composed)`.

    Args:
      rotation_first, rotation_second: R of the augmentation that acts first and of the second, [d, d], from `wahba`.
      f: Embeddings f(x_i), [n, d].
      f_composed: Embeddings f(a_second(a_first(x_i))), [n, d]; not all zero.

    Returns:
      A scalar.

    Raises:
      ValueError: If the embeddings' shapes differ, are not [n, d] or empty, or a rotation is not [d, d].

    Example:
      >>> import jax.numpy as jnp
      >>> f, quarter_turn = jnp.eye(2), jnp.array([[0.0, -1.0], [1.0, 0.0]])
      >>> print(composition_error(quarter_turn, quarter_turn, f, -f))  # two quarter turns are a half turn
      0.0

    Source: CARE, Corollary 1 and section 4.
    """
    f, f_composed = named_pair("composition_error", f=f, f_composed=f_composed)
    predicted = f
    for name, rotation in (("rotation_first", rotation_first), ("rotation_second", rotation_second)):
        rotation = jnp.asarray(rotation, f.dtype)
        if rotation.shape != (f.shape[1], f.shape[1]):
            raise ValueError(f"composition_error: {name} must be [d, d], d = {f.shape[1]}; got {rotation.shape}")
        predicted = matmul(predicted, rotation.T)
    return _length(predicted - f_composed) / _length(f_composed)


def relative_equivariance(f: ArrayLike, fa: ArrayLike) -> jax.Array:
    """Relative rotational equivariance, gamma: 0 if the augmentation keeps every distance between embeddings.

        mean over pairs i != j of  (||fa_j - fa_i||^2 - ||f_j - f_i||^2)^2 / (||fa_j - f_j||^2 + ||fa_i - f_i||^2)^2

    A pair of which neither point moved has ratio 0/0 and counts as 0, because its distance did not change; exactly
    invariant embeddings therefore score 0. A pair that moved by a small step can have a ratio of 1/step^2 and rule
    the mean: `relative_equivariance_median` is the robust companion. Memory is O(n d): rows go in blocks.

    The rounding of the embeddings themselves counts for more the smaller the steps: on unit rows of float32 it adds
    about (6e-8 / step^2)^2 to a ratio, which is nothing at a step of 0.1 and all of it at 1e-4. Arrays of float64 are
    rounded to float32 first where JAX has no 64 bits: `metrics.motion.relative_equivariance_quantiles` keeps them, and
    is NaN where gamma is not known.

    Args:
      f: Embeddings f(x_i), [n, d].
      fa: Embeddings f(a(x_i)), [n, d], one augmentation for all rows.

    Returns:
      A scalar.

    Raises:
      ValueError: If the shapes differ, are not [n, d], or n < 2.

    Example:
      >>> import jax.numpy as jnp
      >>> f, shear = jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 1.0]])
      >>> print(relative_equivariance(f, -f), relative_equivariance(f, f @ shear))  # (1 - 2)^2 / (0 + 1)^2
      0.0 1.0

    Source: CARE, section 4 (gamma), for one augmentation: average over augmentations outside.
    """
    points = _pair_terms("relative_equivariance", f, fa)
    n = len(points[0])

    def row_sum(row):
        index, point = row
        return jnp.sum(jnp.where(jnp.arange(n) == index, 0.0, _ratios_of(point, points)))

    row_sums = jax.lax.map(row_sum, (jnp.arange(n), points), batch_size=min(n, _PAIR_ROWS))
    return jnp.mean(row_sums / (n - 1))


def relative_equivariance_ratios(f: ArrayLike, fa: ArrayLike) -> jax.Array:
    """The ratio of every pair, [n, n], whose mean over i != j is `relative_equivariance`.

    Symmetric; the diagonal is NaN, so that a statistic which forgets to leave it out shows. Pairs of which neither
    point moved are 0, as in the mean. Memory is O(n^2). Arguments and errors are those of `relative_equivariance`.
    """
    return _all_ratios("relative_equivariance_ratios", f, fa)


def _all_ratios(name: str, f: ArrayLike, fa: ArrayLike) -> jax.Array:
    points = _pair_terms(name, f, fa)
    n = len(points[0])
    ratios = jax.lax.map(lambda point: _ratios_of(point, points), points, batch_size=min(n, _PAIR_ROWS))
    return jnp.where(jnp.eye(n, dtype=bool), jnp.nan, ratios)


def relative_equivariance_median(f: ArrayLike, fa: ArrayLike) -> jax.Array:
    """Median over pairs i != j of the ratios of `relative_equivariance`: one hardly moved pair cannot rule it.

    Memory is O(n^2), and all pairs are sorted: take a subset of more than a few thousand rows. Arguments, result
    and errors are those of `relative_equivariance`.
    """
    ratios = _all_ratios("relative_equivariance_median", f, fa)
    n = len(ratios)
    # In rows of n + 1 the diagonal is one column. (nanmedian would pass over the NaNs of broken embeddings too.)
    return jnp.median(ratios.reshape(-1)[1:].reshape(n - 1, n + 1)[:, :-1])


def named_pair(name: str, **pair: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """`losses.arrays.as_pair` for the measure of this name, which its error begins with."""
    try:
        return as_pair(**pair)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _length(x: jax.Array) -> jax.Array:
    """The Frobenius norm, with a gradient of 0 at 0, where the square root has none."""
    squared = jnp.sum(x * x)
    return jnp.where(squared == 0, 0.0, jnp.sqrt(jnp.where(squared == 0, 1.0, squared)))


def _pair_terms(name: str, f: ArrayLike, fa: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Per point: its step fa - f, its total fa + f, their inner product, and the squared length of the step."""
    f, fa = named_pair(name, f=f, fa=fa)
    if len(f) < 2:
        raise ValueError(f"{name}: a pair needs at least 2 rows; got {len(f)}")
    step, total = fa - f, fa + f
    return step, total, jnp.sum(step * total, axis=-1), jnp.sum(step**2, axis=-1)


def _ratios_of(point, points) -> jax.Array:
    """The ratio of one point with each of n points, [n]."""
    step, total, growth, moved = point
    steps, totals, growths, all_moved = points
    # ||fa_j - fa_i||^2 - ||f_j - f_i||^2 = (step_j - step_i)·(total_j - total_i): no two distances are subtracted,
    # so nothing is lost beside what the rounding of the embeddings has lost before.
    change = growth + growths - matmul(totals, step) - matmul(steps, total)
    moved = moved + all_moved
    # == 0, not > 0: NaN embeddings must come out as NaN. Divide before squaring, as moved^2 underflows early.
    return jnp.where(moved == 0, 0.0, (change / jnp.where(moved == 0, 1.0, moved)) ** 2)
