"""Steps on clouds: CARE's loss of the rotations that were drawn, whatever the devices, the parts and the stops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from care_jax import losses, models
from care_jax.augment import CloudAugmentation, CloudSpec, sample_cloud
from care_jax.configs import proteins
from care_jax.data import DataSet, Examples
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.online_probe import make_probe
from care_jax.methods import METHODS, TERMS
from care_jax.train.batches import abstract_batches
from care_jax.train.checkpoint import Checkpoints
from care_jax.train.placements import PLACEMENTS, example

ROTATED = {
    f"augment.{branch}.{name}": value
    for branch in ("invariance", "equivariance")
    for name, value in (CloudSpec.settings() | {"rotation": True}).items()
}
SMALL = {
    **ROTATED,
    "model.width": 4,
    "model.head_hidden_sizes": (8,),
    "model.head_size": 4,
    "train.batch_size": 16,
    "train.num_steps": 4,
    "equivariance.num_groups": 4,
    "equivariance.weight": 0.5,
}
SGD = {"optimizer.name": "sgd", "optimizer.momentum": 0.0, "optimizer.learning_rate": 0.1}
NO_BATCH_NORM = {"model.head_batch_norm": False}


def _examples(n=50, length=7):
    generator = np.random.default_rng(0)
    mask = np.arange(length) < generator.integers(3, length + 1, size=(n, 1))
    found = np.concatenate([generator.normal(size=(n, length, 3)), np.ones((n, length, 1))], axis=-1)
    labels = {"class": np.arange(n, dtype=np.int32) % 3}
    return Examples(np.where(mask[..., None], found, 0).astype(np.float32), labels)


def _experiment(num_devices=1, encoder=None, **overrides):
    config = proteins.get_config()
    config.update_from_flattened_dict(SMALL | {name.replace("__", "."): x for name, x in overrides.items()})
    examples = _examples()
    dataset = DataSet("clouds", examples, examples, examples, {"class": 3})
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:num_devices]), dataset)
    return experiment._replace(encoder=encoder or experiment.encoder)


def _train(experiment, steps, state=None, start=0):
    state, step_fn = state or build.make_state(experiment), jax.jit(build.make_step(experiment))
    rows = []
    for _, batch in zip(range(steps), build.make_batches(experiment, start), strict=False):
        state, metrics = step_fn(state, batch)
        rows.append(metrics)
    return jax.device_get((state, rows))


def _compare(one, other, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-4, "atol": 1e-5} | tolerance), one, other)


def _views(experiment, batch):
    plan = experiment.plan
    return jax.jit(lambda batch: PLACEMENTS["device"](plan, batch, plan.uniforms(0)))(batch)


def _turned(uniforms, clouds, spec):
    """By NumPy, in float64."""
    rotations = np.asarray(sample_cloud(uniforms, spec).rotation, np.float64)
    points = np.einsum("bij,bnj->bni", rotations, np.float64(clouds[..., :3]))
    return np.concatenate([points, clouds[..., 3:]], axis=-1).astype(np.float32)


@pytest.mark.slow
def test_the_loss_is_that_of_clouds_turned_and_embedded_one_by_one():
    experiment = _experiment()
    state, batch = build.make_state(experiment), next(build.make_batches(experiment, 0))
    _, rows = _train(experiment, 1)
    clouds = experiment.dataset.pretrain.pixels[np.asarray(batch["indices"])]
    uniforms, plan = experiment.plan.uniforms(0), experiment.plan
    views = [_turned(rows, clouds, plan.invariance) for rows in uniforms.invariance]
    views += [_turned(rows, clouds, plan.equivariance) for rows in uniforms.equivariance]
    encode = jax.jit(lambda x: experiment.encoder.apply(state.variables, x, train=True, mutable=["batch_stats"])[0][1])
    z1, z2, e1, e2 = (encode(view) for view in views)
    contrast = losses.info_nce(z1, z2, temperature=0.5)
    rotation = losses.equivariance_loss(e1, e2, num_groups=4)
    np.testing.assert_allclose(rows[0]["info_nce"], contrast, rtol=1e-5)
    np.testing.assert_allclose(rows[0]["equivariance"], rotation, rtol=1e-4)
    np.testing.assert_allclose(rows[0]["loss"], contrast + 0.5 * rotation, rtol=1e-5)


def test_clouds_of_a_group_share_their_rotation():
    """The same cloud all over the batch: equal inside a group, turned otherwise in the next."""
    experiment = _experiment()
    batch = next(build.make_batches(experiment, 0))
    views = _views(experiment, {**batch, "indices": jnp.zeros_like(batch["indices"])})
    assert views.invariance.shape == views.equivariance.shape == (2, 16, 7, 4)
    groups = np.asarray(views.equivariance[0]).reshape(4, 4, -1)
    assert np.ptp(groups, axis=1).max() < 1e-6
    assert all(np.abs(groups[i, 0] - groups[j, 0]).max() > 0.1 for i in range(4) for j in range(i))
    assert np.ptp(np.asarray(views.invariance[0]).reshape(16, -1), axis=0).max() > 0.5
    assert np.abs(views.equivariance[0] - views.equivariance[1]).max() > 0.1


class Told(linen.Module):
    """Embeddings that no rotation changes, or that turn as the cloud does: sum of |x - mean|^2 (x - mean)."""

    turns: bool

    @linen.compact
    def __call__(self, x, train=False, num_views=1):
        points, mask = x[..., :3], x[..., 3:]
        points = (points - (points * mask).sum(1, keepdims=True) / mask.sum(1, keepdims=True)) * mask
        lengths = (points**2).sum(-1)
        if self.turns:
            return jnp.einsum("nl,nld->nd", lengths, points, precision="highest")
        return jnp.stack([lengths.mean(1), (lengths**2).mean(1), mask.sum((1, 2))], axis=-1)


class Same(linen.Module):
    """No projection."""

    @linen.compact
    def __call__(self, x, train=False, num_views=1):
        return x * self.param("scale", linen.initializers.ones, ())


@pytest.mark.slow
@pytest.mark.parametrize("turns", [False, True])
def test_what_rotations_leave_or_turn_has_no_equivariance_loss(turns):
    experiment = _experiment(encoder=models.Encoder(Told(turns), Same()))
    _, rows = _train(experiment, 1)
    assert abs(rows[0]["equivariance"]) < 2e-7  # float32
    # Were each cloud turned by itself, no rotation would carry the embeddings of a group along.
    plan = experiment.plan
    uniforms = plan.uniforms(0)._replace(equivariance=plan.uniforms(1).invariance)
    batch = next(build.make_batches(experiment, 0))
    views = jax.jit(lambda batch: PLACEMENTS["device"](plan, batch, uniforms))(batch).equivariance
    one, two = (models.normalize(Told(turns).apply({}, view)) for view in views)
    assert (losses.equivariance_loss(one, two, num_groups=4) > 1e-3) == turns


@pytest.mark.slow
def test_eager_views_are_compiled_ones():
    """What is of clouds in a step; the rest is that of images."""
    experiment = _experiment(**{"augment.invariance.jitter": 0.1, "augment.invariance.dropping": 0.2})
    batch, plan = next(build.make_batches(experiment, 0)), experiment.plan
    eager = PLACEMENTS["device"](plan, batch, plan.uniforms(0))
    compiled = _views(experiment, batch)
    _compare(eager.invariance, compiled.invariance)
    _compare(eager.equivariance, compiled.equivariance)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "overrides"), [(8, {}), (1, {"train__micro_batches": 2}), (8, NO_BATCH_NORM)])
def test_devices_and_parts_change_nothing(devices, overrides):
    """Batch norm sees each part by itself, so the parts are of a head without."""
    settings = SGD | (NO_BATCH_NORM if "train__micro_batches" in overrides else {}) | overrides
    reference = SGD | {name: x for name, x in settings.items() if "micro" not in name}
    (one, rows_one), (other, rows) = _train(_experiment(**reference), 3), _train(_experiment(devices, **settings), 3)
    _compare(one.params, other.params)
    _compare(one.batch_stats, other.batch_stats, atol=1e-4)
    _compare(rows_one, rows, atol=1e-4)


@pytest.mark.slow
def test_a_stop_changes_nothing(tmp_path):
    """Bit for bit, of Adam."""
    experiment = _experiment()
    whole, _ = _train(experiment, 4)
    half, _ = _train(experiment, 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(jax.device_put(half, sharding.replicated(experiment.mesh)), info={})
    checkpoints.wait()
    like = build.abstract_state(experiment)
    state, _ = checkpoints.restore(like)
    checkpoints.close()
    gone_on, _ = _train(experiment, 2, state, start=2)
    jax.tree.map(np.testing.assert_array_equal, gone_on, whole)


ALL = {name: {"loss.method": name} for name in METHODS}
ALL |= {
    "care on the features": {"equivariance.on": "features"},
    "equimod": {"equivariance.term": "equimod"},
    "sie": {"equivariance.term": "sie"},
}
TRAINED = ("moco", "care on the features", "equimod", "sie")


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL)
def test_every_method_trains_on_clouds(case):
    experiment = _experiment(**{**ALL[case], "augment.invariance.scaling": 0.1, "augment.invariance.dropping": 0.2})
    if case not in TRAINED:  # compiling takes seconds; the methods are tested on images
        state, metrics = jax.eval_shape(
            build.make_step(experiment), build.abstract_state(experiment), next(build.make_batches(experiment, 0))
        )
        assert state.params.keys() >= {"backbone", "head"} and metrics["loss"].shape == ()
        return
    before = jax.device_get(build.make_state(experiment))
    after, rows = _train(experiment, 2)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((after.params, rows)))
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), before.params["backbone"], after.params["backbone"])
    assert max(jax.tree.leaves(moved)) > 0


def test_every_term_that_is_for_clouds_is_a_case():
    terms = {case.get("equivariance.term", "care") for case in ALL.values()}
    assert terms == {name for name, term in TERMS.items() if not term.only_images}


def test_examples_of_views_have_the_shapes_of_what_is_needed():
    for term, needs in (("care", {"equivariance"}), ("equimod", {"plain", "drawn"})):
        plan = _experiment(equivariance__term=term).plan
        views = jax.eval_shape(lambda: example(plan))  # noqa: B023
        assert views.invariance.shape == (2, 2, 2, 4)
        assert {name for name in needs | {"rotated"} if getattr(views, name) is not None} == needs


def test_plain_and_drawn_views():
    experiment = _experiment(equivariance__term="equimod", augment__invariance__jitter=0.1)
    batch = next(build.make_batches(experiment, 0))
    views, uniforms = _views(experiment, batch), experiment.plan.uniforms(0)
    clouds = experiment.dataset.pretrain.pixels[np.asarray(batch["indices"])]
    np.testing.assert_array_equal(views.plain[0], clouds)
    assert isinstance(views.drawn, CloudAugmentation) and views.equivariance is None
    for view in range(2):
        expected = sample_cloud(uniforms.invariance[view], experiment.plan.invariance)
        np.testing.assert_allclose(views.drawn.rotation[view], expected.rotation, atol=1e-6)
        np.testing.assert_array_equal(views.drawn.noise[view], expected.noise)


@pytest.mark.parametrize("labelled", [False, True])
def test_batches_are_as_they_are_described(labelled):
    experiment = _experiment(8, evaluate__online_probe=labelled)
    (real,) = build.make_stacked_batches(experiment, 0, [2])
    described = abstract_batches(
        experiment.plan,
        experiment.mesh,
        placement="device",
        num_examples=50,
        image_shape=(7, 4),
        count=2,
        labelled=labelled,
    )
    assert jax.tree.structure(real) == jax.tree.structure(described)
    for array, struct in zip(jax.tree.leaves(real), jax.tree.leaves(described), strict=True):
        assert (array.shape, array.dtype) == (struct.shape, struct.dtype)
        assert array.sharding.is_equivalent_to(struct.sharding, array.ndim)


@pytest.mark.slow
def test_an_online_probe_beside_an_encoder_of_clouds():
    experiment = _experiment(evaluate__online_probe=True)
    probe, probe_state = make_probe(experiment)
    step = jax.jit(build.make_step(experiment, probe))
    state = build.make_state(experiment), probe_state
    state, metrics = step(state, next(build.make_batches(experiment, 0)))
    assert np.isfinite(metrics["online_probe_top1"]) and jax.tree.leaves(state[1])[0].shape[0] in (8, 3)
