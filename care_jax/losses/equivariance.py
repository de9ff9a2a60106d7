"""CARE's equivariance loss: zero exactly when one orthogonal matrix moves all embeddings of a group at once.

If an augmentation pair keeps every inner product inside a group, f(a(x))·f(a(x')) = f(a'(x))·f(a'(x')), then
f(a'(x)) = R f(a(x)) with one orthogonal R for the whole group (CARE, Proposition 1). Nothing here names R: the loss
compares Gram matrices. Replacing the inner product by another bilinear form replaces O(d) by the form's stabiliser.
"""

import operator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from care_jax.losses.arrays import as_pair, product


def equivariance_loss(z1: ArrayLike, z2: ArrayLike, *, num_groups: int, form: ArrayLike | None = None) -> jax.Array:
    """Squared change of the inner products inside each group, from one augmentation to the other.

        mean over groups of  2 * mean_i sum_{j != i} ( <z1_i, z1_j> - <z2_i, z2_j> )^2,   <x, y> = x' form y

    The sum (not mean) over j is the official code's: the loss grows with the group, and published weights assume it.
    Groups are consecutive rows: group k is rows k*n to (k+1)*n - 1. A group of one input has no pairs and adds 0 (NaN
    where its embedding is NaN).

    Precision: nothing cancels as the views approach each other (small |z1 - z2|). A group larger than d takes O(n d^2)
    operations and no [n, n] array, and there a loss far below |z1 - z2|^2 (views far apart, related by a nearly
    exact rotation) is a small difference of large traces: it carries rounding of about 1e-6 |z1 - z2|^2 in float32 and
    may come out negative by as much.

    Args:
      z1: Embeddings under each group's first augmentation, [g*n, d]; unit rows for the published loss.
      z2: Embeddings of the same inputs under its second augmentation, [g*n, d].
      num_groups: g, the number of chunks that drew their own pair of augmentations; divides the number of rows.
      form: Matrix B of a bilinear form, [d, d]; symmetric, skew or general. None is the inner product: O(d).
        diag(-1, 1, ..., 1) gives the Lorentz group O(1, d-1); [[0, I], [-I, 0]] the symplectic group Sp(d).

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ValueError: If the shapes differ, are not [g*n, d], or there is no row; if `num_groups` is not positive or does
        not divide the rows; if `form` is not [d, d].

    Example:
      >>> import jax.numpy as jnp
      >>> z, rotation = jnp.eye(2), jnp.array([[0.0, 1.0], [-1.0, 0.0]])
      >>> print(equivariance_loss(z, z @ rotation, num_groups=1))
      0.0
      >>> print(equivariance_loss(z, jnp.array([[1.0, 0.0], [1.0, 0.0]]), num_groups=1))  # one inner product, 0 to 1
      2.0

    Source: CARE (Gupta et al., ICLR 2024), L_equi and section 3.2; normalised as in the official code.
    """
    z1, z2 = as_pair(z1=z1, z2=z2)
    num_rows, d = z1.shape
    form = None if form is None else jnp.asarray(form, z1.dtype)
    if form is not None and form.shape != (d, d):
        raise ValueError(f"form must be [d, d] with d = {d}, as the embeddings; got {form.shape}")
    num_groups = operator.index(num_groups)
    if num_groups < 1 or num_rows % num_groups:
        raise ValueError(f"num_groups must be positive and divide the {num_rows} rows of z1; got {num_groups}")
    # z1_i·z1_j - z2_i·z2_j = (s_i·d_j + d_i·s_j) / 2 with s = z1 + z2 and d = z1 - z2. The left side subtracts two
    # numbers near 1 and loses the digits that matter as the views approach; the right side keeps them.
    # A single group needs no axis: XLA's batched products are several times slower on CPUs.
    shape = (num_groups, -1, d) if num_groups > 1 else (-1, d)
    total, difference = (z1 + z2).reshape(shape), (z1 - z2).reshape(shape)
    group_size = total.shape[-2]
    squared_change = _squared_change_in_pairs if group_size <= d else _squared_change_in_coordinates
    return 2.0 / num_rows * squared_change(total, difference, form)


def _squared_change_in_pairs(total: jax.Array, difference: jax.Array, form: jax.Array | None) -> jax.Array:
    """Sum over groups and i != j of the squared change, from [n, n] Gram differences: O(n^2 d)."""
    x = product("...id,...jd->...ij", _times(total, form), difference)
    # y_ij = d_i' B s_j; for the inner product it is the transpose of x, which costs nothing.
    y = x.mT if form is None else product("...id,...jd->...ij", _times(difference, form), total)
    change = (x + y) / 2
    # 0 times the diagonal, not 0: in a group of one input there is nothing else that a NaN could show in.
    change = jnp.where(jnp.eye(total.shape[-2], dtype=bool), 0.0 * change, change)
    return jnp.sum(change**2)


def _squared_change_in_coordinates(total: jax.Array, difference: jax.Array, form: jax.Array | None) -> jax.Array:
    """The same sum from [d, d] matrices: O(n d^2).

    With X = S B D' and Y = D B S', the sum over all i, j is ||X + Y||^2 / 4 = (||X||^2 + ||Y||^2 + 2 <X, Y>) / 4, and
        ||X||^2 = <S'S, B D'D B'>,   ||Y||^2 = <B' D'D B, S'S>,   <X, Y> = tr(B' M B M)  with  M = S'D.
    For B = I this is (<S'S, D'D> + tr(M M)) / 2. The diagonal terms (s_i' B d_i + d_i' B s_i)^2 / 4 come off.
    """
    total_gram = product("...ni,...nj->...ij", total, total)
    difference_gram = product("...ni,...nj->...ij", difference, difference)
    cross = product("...ni,...nj->...ij", total, difference)
    if form is None:
        everything = jnp.sum(total_gram * difference_gram) / 2 + jnp.sum(cross * cross.mT) / 2
        diagonal = jnp.sum(total * difference, axis=-1)
    else:
        x_and_y = product("ij,...jk,lk->...il", form, difference_gram, form) + product(
            "ji,...jk,kl->...il", form, difference_gram, form
        )
        x_with_y = product("ji,...jk->...ik", form, cross) * product("ij,...jk->...ik", form, cross).mT
        everything = jnp.sum(total_gram * x_and_y) / 4 + jnp.sum(x_with_y) / 2
        # s' B d + d' B s = s' (B + B') d
        diagonal = jnp.sum(_times(total, form + form.mT) * difference, axis=-1) / 2
    return everything - jnp.sum(diagonal**2)


def _times(z: jax.Array, form: jax.Array | None) -> jax.Array:
    """Rows z_i' B, so that an inner product with them is the bilinear form."""
    return z if form is None else product("...id,de->...ie", z, form)
