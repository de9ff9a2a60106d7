"""Our side of the comparison is a whole step."""

import functools

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ours
from benchmarks.settings import Case
from care_jax import models


@pytest.mark.slow
def test_its_step_is_one_of_four_views(monkeypatch):
    monkeypatch.setitem(ours.BACKBONES, "resnet18", functools.partial(models.ResNet, (1,)))
    side = ours.Ours(Case("ours", "resnet18", batch_size=16, width=2, num_images=32))
    # Traced only: what it computes is tested elsewhere, and compiling it takes long.
    state, metrics = jax.eval_shape(side._step, side._state, side._batch())
    assert jax.tree.structure(state) == jax.tree.structure(side._state)
    assert {"loss", "info_nce", "equivariance"} <= set(metrics)
    made = jax.eval_shape(side._make_views, side._batch(), jnp.asarray(0))
    assert made.invariance.shape == made.equivariance.shape == (2, 16, 32, 32, 3)
