"""Every file of configs/ builds its model and traces its step; what does not fit together is refused."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import data
from care_jax.data.decode import canvas_side
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.train.placements import PLACEMENTS

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[1] / "configs").glob("*.py") if path.stem != "__init__")


class _Encoded:
    """Stands for ImageNet: its size is known, its pixels are never asked for."""

    def __len__(self) -> int:
        return 8192


def _dataset(config) -> data.DataSet:
    side = config.data.image_size
    resident = config.augment.placement == "device"
    examples = data.Examples(images=np.zeros((1024, side, side, 3), np.uint8) if resident else _Encoded())
    return data.DataSet(name=config.data.name, pretrain=examples, train=examples, test=examples, num_classes={})


def _batch(experiment) -> dict:
    plan, config = experiment.plan, experiment.config
    size, fraction = config.data.image_size, config.augment.equivariance.center_fraction
    if config.augment.placement == "decode":
        side = round(size / fraction)
        canvas = canvas_side(size)
        return {
            "canvases": jax.ShapeDtypeStruct((plan.batch_size, canvas, canvas, 3), jnp.uint8),
            "boxes": jax.ShapeDtypeStruct((2, plan.batch_size, 4), jnp.float32),
            "equivariance_images": jax.ShapeDtypeStruct((plan.equivariance_batch_size, side, side, 3), jnp.uint8),
        }
    images = experiment.dataset.pretrain.images
    return {"images": jnp.asarray(images), "indices": jax.ShapeDtypeStruct((plan.batch_size,), jnp.int32)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("imagenet")) for name in CONFIGS]
)
def test_config_builds_its_model_and_traces_its_step(name, monkeypatch):
    config = importlib.import_module(f"care_jax.configs.{name}").get_config()
    if name == "image_folder":
        config.data.root = "given"
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:8]), _dataset(config))
    state = build.abstract_state(experiment)
    images = [leaf.shape for leaf in jax.tree.leaves(state.params)]
    assert images
    batch = _batch(experiment)
    structs = {key: jax.ShapeDtypeStruct(value.shape, value.dtype) for key, value in batch.items()}
    made, make_views = [], PLACEMENTS[config.augment.placement]
    monkeypatch.setitem(PLACEMENTS, config.augment.placement, lambda *of: made.append(make_views(*of)) or made[-1])
    after, metrics = jax.eval_shape(build.make_step(experiment), state, structs)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert {"loss", "info_nce", "equivariance"} <= metrics.keys()
    views, shared, *_ = made[0]
    size = config.data.image_size
    assert views.shape == (2, config.train.batch_size, size, size, 3)
    assert shared.shape == (2, experiment.plan.equivariance_batch_size, size, size, 3)


@pytest.mark.slow
def test_a_vision_transformer_without_batch_norm_traces_its_step(tiny_config):
    """No collection of running averages anywhere; E-SSL's views of half the size go through it too."""
    config = tiny_config(
        model__backbone="vit_small",
        model__stem="cifar",
        model__width=2,
        model__head_batch_norm=False,
        loss__method="moco",
        equivariance__term="essl",
    )
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]), _dataset(config))
    state = build.abstract_state(experiment)
    assert state.batch_stats == {} and state.method_state["target"]["batch_stats"] == {}
    structs = {key: jax.ShapeDtypeStruct(value.shape, value.dtype) for key, value in _batch(experiment).items()}
    after, metrics = jax.eval_shape(build.make_step(experiment), state, structs)
    assert {"info_nce", "rotation"} <= metrics.keys()
    assert after.params["backbone"].keys() == state.params["backbone"].keys()


def test_every_setting_of_base_is_checked():
    """A setting without a rule would be a setting that takes any value."""
    from care_jax.configs import base
    from care_jax.experiment.config import leaves
    from care_jax.experiment.settings import rules

    assert set(leaves(base.get_config().to_dict())) == set(rules())


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("equivariance.num_groups", 5, "does not divide the 128 images"),
        ("equivariance.num_groups", 128, "groups of one image"),
        ("equivariance.batch_size", 256, "more than the batch of 128"),
        ("equivariance.weight", -1.0, "must be at least 0"),
        ("loss.temperature", 0.0, "must be above 0"),
        ("loss.method", "moco9", "choose one of simclr"),
        ("model.dtype", "float16", "choose one of float32, bfloat16"),
        ("data.mean", (0.1, 0.2), "give a tuple of 3 numbers"),
        ("data.std", (0.1, 0.2, 0.0), "must be above 0"),
        ("optimizer.learning_rate", float("nan"), "give a finite number"),
        ("augment.invariance.crop_scale", (0.9, 0.1), "crop_scale"),
        ("augment.equivariance.blur_kernel_size", 4, "blur_kernel_size"),
        ("evaluate.probe.schedule", "linear", "config.evaluate.probe.schedule"),
        ("train.batch_size", 100, "8 devices do not divide"),
        ("optimizer.warmup_epochs", 1000.0, "warm-up"),
    ],
)
def test_a_bad_value_is_named(setting, value, message):
    from care_jax.configs import digits

    config = digits.get_config()
    config.update_from_flattened_dict({setting: value})
    if setting == "train.batch_size":
        config.equivariance.num_groups = 4
    with pytest.raises(ConfigError, match=message) as caught:
        build.build(config, sharding.make_mesh(jax.devices()[:8]), _dataset(config))
    assert "\n" not in str(caught.value)


def test_imagenet_does_not_fit_a_device():
    from care_jax.configs import imagenet

    config = imagenet.get_config()
    config.augment.placement = "device"
    with pytest.raises(ConfigError, match="use 'decode'"):
        build.check(config, sharding.make_mesh(jax.devices()[:8]))


def test_no_steps_are_no_steps(tiny_config):
    """Not the number that the epochs make: the encoder as it was drawn is what others are compared with."""
    assert build.build(tiny_config(train__num_steps=0)).num_steps == 0
    assert build.build(tiny_config(train__num_steps=None, train__epochs=2.0)).num_steps == 2 * 44


def test_a_folder_is_asked_for():
    from care_jax.configs import image_folder

    with pytest.raises(ConfigError, match=r"config\.data\.root has no value: .*--config\.data\.root=my_images"):
        build.check(image_folder.get_config(), sharding.make_mesh(jax.devices()[:1]))
