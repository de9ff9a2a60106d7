"""MoCo: the queue against one in NumPy, the momentum encoder against a loop, keys that know nothing of their batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import losses, models
from care_jax.methods import MoCo, Update, Views
from care_jax.methods.moco import enqueue

QUEUE_SIZE = 10
METHOD = MoCo(temperature=0.2, momentum=0.9, queue_size=QUEUE_SIZE)


@pytest.fixture(scope="module")
def setup(small_encoder):
    """An encoder that has seen a batch, views of 8 images, and a method's state."""
    encoder = small_encoder()
    views = Views(invariance=jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 16, 16, 3), np.float32)))
    variables = jax.jit(encoder.init)(jax.random.key(1), views.invariance[0])
    return encoder, views, variables, jax.jit(METHOD.init, static_argnums=2)(jax.random.key(2), variables, 8)


def _with_networks(encoder, variables, function):
    networks = models.Networks.of(encoder, METHOD.heads)
    return networks.apply(variables, method=function, mutable=["batch_stats"])[0]


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4, 4), (3, 7, 1, 10, 6), (10, 10), (13, 2, 25, 5)], ids=str)
def test_queue_is_the_ring_of_a_loop(sizes):
    """Batches that do not divide the queue, wrap its end, fill it, and are larger than it."""
    rng = np.random.default_rng(0)
    queue, position = rng.normal(size=(QUEUE_SIZE, 3)).astype(np.float32), 0
    actual, where = jnp.asarray(queue), jnp.int32(0)
    for size in sizes:
        keys = rng.normal(size=(size, 3)).astype(np.float32)
        for key in keys:
            queue[position] = key
            position = (position + 1) % QUEUE_SIZE
        actual, where = jax.jit(enqueue)(actual, where, keys)
        np.testing.assert_array_equal(actual, queue)
        assert int(where) == position


def test_state_at_the_start(setup):
    _, _, variables, state = setup
    np.testing.assert_allclose(np.linalg.norm(state["queue"], axis=1), 1.0, rtol=1e-6)
    assert state["queue"].shape == (QUEUE_SIZE, 8) and int(state["position"]) == 0
    jax.tree.map(np.testing.assert_array_equal, state["target"], dict(variables))


def test_a_key_is_a_function_of_its_image_alone(setup):
    """Other images in the batch change the queries, through batch norm, and no key."""
    encoder, views, variables, state = setup

    @jax.jit
    def embed(own):
        def outputs_of(networks):
            outputs = {"embeddings": models.normalize(networks.project(networks.features(own[:1])))}
            return outputs | METHOD.embed(networks, Views(invariance=own), outputs, state)

        return _with_networks(encoder, variables, outputs_of)

    before = embed(views.invariance)
    after = embed(views.invariance.at[:, 4:].multiply(3.0))
    assert before["keys"].shape == (1, 8, 8)
    np.testing.assert_array_equal(before["keys"][0, :4], after["keys"][0, :4])
    assert np.abs(before["embeddings"][0, :4] - after["embeddings"][0, :4]).max() > 1e-2
    np.testing.assert_allclose(np.linalg.norm(before["keys"], axis=-1), 1.0, rtol=1e-5)
    of_the_first = embed(views.invariance.at[0].multiply(3.0))
    np.testing.assert_array_equal(before["keys"], of_the_first["keys"])  # keys are the second views'


def test_keys_see_no_gradient(setup):
    """Neither the momentum encoder's variables nor, through the keys, the encoder's parameters."""
    encoder, views, variables, state = setup

    @jax.jit
    @jax.grad
    def gradient(target):
        moved = {**state, "target": target}
        keys = _with_networks(encoder, variables, lambda networks: METHOD.embed(networks, views, {}, moved)["keys"])
        return METHOD.loss({"embeddings": keys[:, ::-1], "keys": keys}, state)["info_nce"]

    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient(state["target"])))


def test_loss_is_that_of_the_first_views_against_the_queue(setup):
    *_, state = setup
    rows = np.random.default_rng(3).standard_normal((2, 8, 8), np.float32)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    found = jax.jit(METHOD.loss)({"embeddings": rows[:1], "keys": rows[1:]}, state)
    expected = jax.jit(losses.queue_info_nce)(rows[0], rows[1], state["queue"], temperature=0.2)
    assert set(found) == {"info_nce"}
    np.testing.assert_allclose(found["info_nce"], expected, rtol=1e-6)


def test_after_an_update(setup):
    """target <- 0.9 target + 0.1 encoder, by a loop over all leaves; other heads are not copied; keys are stored."""
    _, _, variables, state = setup
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32), dict(variables))
    keys = jnp.ones((1, 4, 8))
    others = {**moved, "params": {**moved["params"], "predictor": {"kernel": jnp.ones(3)}}}
    after = jax.jit(METHOD.after_update)(state, Update(jnp.int32(0), others, {"keys": keys}))
    expected = jax.tree.map(lambda old, new: 0.9 * np.float64(old) + 0.1 * np.float64(new), state["target"], moved)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), after["target"], expected)
    np.testing.assert_array_equal(after["queue"][:4], keys[0])
    np.testing.assert_array_equal(after["queue"][4:], state["queue"][4:])
    assert int(after["position"]) == 4
