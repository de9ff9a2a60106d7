"""NaN in, NaN out: one broken embedding shows in every loss and in its gradient, whatever the shapes hide."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import losses

PAIRED = {
    "alignment": losses.alignment,
    "barlow_twins": losses.barlow_twins,
    "byol": losses.byol,
    "covariance": losses.covariance,
    "equivariance_loss": lambda z1, z2: losses.equivariance_loss(z1, z2, num_groups=2),
    "info_nce": lambda z1, z2: losses.info_nce(z1, z2, temperature=0.5),
    "invariance": losses.invariance,
    "queue_info_nce": lambda z1, z2: losses.queue_info_nce(z1, z2, z2[:1], temperature=0.5),
    "uniformity": losses.uniformity,
    "variance": losses.variance,
    "vicreg": losses.vicreg,
}


def test_every_loss_is_here():
    assert set(PAIRED) | {"hyperboloid", "lorentz_form", "symplectic_form"} == set(losses.__all__)


@jax.jit
def values_and_gradients(z1, z2):
    return {name: jax.value_and_grad(loss, (0, 1))(z1, z2) for name, loss in PAIRED.items()}


@pytest.mark.slow
# Groups of one; groups in coordinates; a single dimension.
@pytest.mark.parametrize(("n", "d"), [(2, 3), (8, 3), (4, 1)])
def test_one_nan_shows(n, d):
    whole, broken = np.random.default_rng(0).standard_normal((2, n, d)).astype(np.float32)
    broken[-1, 0] = np.nan
    clean = values_and_gradients(whole, whole[::-1])
    assert np.isfinite(jax.tree.leaves(jax.tree.map(jnp.sum, clean))).all()
    # What stands for the diagonal has no value and no gradient.
    for name in {2: ["equivariance_loss"], 4: ["covariance"]}.get(n, []):
        assert not np.any(clean[name][0]) and not np.any(clean[name][1])
    for views in ((broken, whole), (whole, broken), (broken, 0 * whole), (0 * whole, broken)):
        for name, (value, gradients) in values_and_gradients(*views).items():
            assert np.isnan(value), name
            assert np.isnan(gradients).any(), name


@pytest.mark.parametrize("name", PAIRED)
def test_forward_mode_is_there_or_the_docstring_says_so(name):
    """Lowered, not computed: whether a rule is missing shows then."""
    rows = jax.ShapeDtypeStruct((4, 3), np.float32)
    jvp = partial(jax.jit(lambda *pair: jax.jvp(PAIRED[name], pair, pair)).lower, rows, rows)
    if "`jax.jvp` isn't defined" in " ".join(inspect.getdoc(getattr(losses, name)).split()):
        with pytest.raises(TypeError, match="forward-mode"):
            jvp()
    else:
        jvp()


def test_points_of_the_hyperboloid_too():
    points = losses.hyperboloid(jnp.array([[1.0, np.nan], [1.0, 2.0]]))
    assert np.isnan(points[0, 0]) and np.isfinite(points[1]).all()
