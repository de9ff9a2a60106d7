"""Where a network computes in float64, nothing in it is less: parameters, statistics, features and embeddings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import models
from care_jax.methods import METHODS, Objective
from care_jax.models.heads import EquivariancePredictor, LayerNormHead, ProjectionHead

IMAGES, ROWS = (4, 8, 8, 3), (4, 6)
NETWORKS = {
    "resnet": (models.ResNet((1, 1), True, 4, "imagenet"), IMAGES),
    "vit": (models.VisionTransformer(1, 2, 4, 4), IMAGES),
    "deep set": (models.DeepSet((8,), (4,)), (4, 5, 3)),
    "projection head": (ProjectionHead((8,), 2, output_batch_norm=True), ROWS),
    "e-ssl's head": (LayerNormHead((8,), 4), ROWS),
    "equimod's predictor": (EquivariancePredictor(6, 5), ROWS, ROWS),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_all_is_as_wide_as_the_computation_and_float32_at_least(name, dtype):
    module, *shapes = NETWORKS[name]
    with jax.enable_x64(True):
        inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        module = module.clone(dtype=dtype)
        made = jax.eval_shape(lambda *x: module.init_with_output(jax.random.key(0), *x, train=True), *inputs)
        applied = jax.eval_shape(lambda variables, *x: module.apply(variables, *x), made[1], *inputs)
        trained = jax.eval_shape(
            lambda variables, *x: module.apply(variables, *x, train=True, mutable=["batch_stats"]), made[1], *inputs
        )
    wanted = np.float64 if dtype == jnp.float64 else np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((made, applied, trained))} == {np.dtype(wanted)}


def test_the_encoders_embeddings_are_float64_too():
    with jax.enable_x64(True):
        head = ProjectionHead((8,), 2, dtype=jnp.float64)
        encoder = models.Encoder(NETWORKS["resnet"][0].clone(dtype=jnp.float64), head)
        images = jax.ShapeDtypeStruct(IMAGES, jnp.float32)
        made = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype(np.float64)}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_sum_of_the_terms_keeps_their_type(dtype):
    with jax.enable_x64(True):
        embeddings = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(dtype)
        total, terms = Objective(METHODS["simclr"]())({"embeddings": embeddings}, {})
        assert total.dtype == terms["info_nce"].dtype == dtype
        assert Objective(METHODS["none"]())({}, {})[0].dtype == np.float32  # of no term
