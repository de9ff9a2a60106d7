"""What does not fit together is refused; settings reach what they set (each file of configs/: lowering_test)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import data
from care_jax.data.decode import canvas_side
from care_jax.devices import sharding
from care_jax.experiment import build, programs
from care_jax.experiment.config import ConfigError
from care_jax.train.online_probe import OnlineProbe

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("[!_]*.py"))


class _Encoded:
    """Stands for ImageNet: its size is known, its pixels are never asked for."""

    def __len__(self) -> int:
        return 8192

    def read(self, index: int) -> bytes:
        raise AssertionError("pixels are asked for")

    def name(self, index: int) -> str:
        return f"image {index}"


def _dataset(config) -> data.DataSet:
    side = config.data.image_size
    resident = config.augment.placement == "device"
    pixels = np.random.default_rng(0).integers(0, 256, (1024, side, side, 3), np.uint8) if resident else _Encoded()
    examples = data.Examples(images=pixels)
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
    images = data.put_resident(experiment.dataset.pretrain)
    return {"images": images, "indices": jax.ShapeDtypeStruct((plan.batch_size,), jnp.int32)}


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
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), _batch(experiment))
    after, metrics = jax.eval_shape(build.make_step(experiment), state, structs)
    assert {"info_nce", "rotation"} <= metrics.keys()
    assert after.params["backbone"].keys() == state.params["backbone"].keys()


def test_every_setting_of_base_is_checked():
    """A setting without a rule would be a setting that takes any value."""
    from care_jax.configs import base
    from care_jax.experiment.config import leaves
    from care_jax.experiment.settings import rules

    assert set(leaves(base.get_config().to_dict())) == set(rules(clouds=False))
    assert set(leaves(base.for_clouds().to_dict())) == set(rules(clouds=True))
    assert set(rules()) == set(rules(clouds=False)) | set(rules(clouds=True))


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
        ("optimizer.warmup_epochs", 1000.0, "optimizer.warmup_epochs: the warm-up of"),
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


def test_float64_needs_jaxs_64_bits(tiny_config):
    config = tiny_config(model__dtype="float64")
    mesh = sharding.make_mesh(jax.devices()[:1])
    with pytest.raises(ConfigError, match=r"^config\.model\.dtype is 'float64', .*JAX_ENABLE_X64=1$"):
        build.check(config, mesh)
    with jax.enable_x64(True):
        build.check(config, mesh)


def test_imagenet_does_not_fit_a_device():
    from care_jax.configs import imagenet

    config = imagenet.get_config()
    config.augment.placement = "device"
    with pytest.raises(ConfigError, match="use 'decode'"):
        build.check(config, sharding.make_mesh(jax.devices()[:8]))


def test_no_steps_are_no_steps(tiny_config):
    """Not the number that the epochs make: the encoder as it was drawn is what others are compared with."""
    for warmup in (0.0, 2.0):
        assert build.build(tiny_config(train__num_steps=0, optimizer__warmup_epochs=warmup)).num_steps == 0
    assert build.build(tiny_config(train__num_steps=None, train__epochs=2.0)).num_steps == 2 * 44


def test_a_folder_is_asked_for():
    from care_jax.configs import image_folder

    with pytest.raises(ConfigError, match=r"config\.data\.root has no value: .*--config\.data\.root=my_images"):
        build.check(image_folder.get_config(), sharding.make_mesh(jax.devices()[:1]))


def test_settings_reach_the_pieces_of_a_run(tiny_config, monkeypatch):
    """In steps where they are given in epochs: 32 steps of 32 images are one."""
    asked = {}

    def record(room, name):
        real = getattr(room, name)

        def recorded(*given, **named):
            asked[name] = named
            return real(*given, **named)

        monkeypatch.setattr(room, name, recorded)

    record(build.optim, "make_schedule")
    record(build.optim, "make_optimizer")
    for name in ("make_objective", "make_train_step", "stacked_batches"):
        record(build, name)
    config = tiny_config(
        seed=3,
        augment__equivariance__hue=0.3,
        augment__num_threads=5,
        model__remat=True,
        equivariance__batch_size=16,
        equivariance__draws="batch",
        optimizer__name="sgd",
        optimizer__momentum=0.7,
        optimizer__weight_decay=0.2,
        optimizer__decay="kernels",
        optimizer__schedule="step",
        optimizer__warmup_epochs=1.0,
        optimizer__step_epochs=(2.0, 3.0),
        optimizer__step_factor=0.3,
        train__num_steps=None,
        train__epochs=4.0,
        train__micro_batches=2,
    )
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]), _dataset(config))
    build.make_step(experiment)
    build.make_stacked_batches(experiment, 0, [1])
    assert (experiment.steps_per_epoch, experiment.num_steps) == (32, 128)
    assert asked["make_schedule"] == {"num_steps": 128, "warmup_steps": 32, "boundaries": [64, 96], "factor": 0.3}
    assert asked["make_optimizer"] == {"weight_decay": 0.2, "momentum": 0.7, "decay": "kernels"}
    assert asked["make_objective"]["num_steps"] == 128
    assert (asked["make_train_step"]["remat"], asked["make_train_step"]["micro_batches"]) == (True, 2)
    assert asked["stacked_batches"]["num_threads"] == 5
    plan = experiment.plan
    assert (plan.seed, plan.draws, plan.batch_size, plan.equivariance_batch_size) == (3, "batch", 32, 16)
    assert (plan.invariance.hue, plan.equivariance.hue) == (config.augment.invariance.hue, 0.3)
    assert (plan.invariance.mean, plan.invariance.std) == (config.data.mean, config.data.std)


def test_a_term_that_shares_no_images_is_given_none(tiny_config):
    config = tiny_config(equivariance__term="augself")
    assert build.build(config, dataset=_dataset(config)).plan.equivariance_batch_size == 0


def test_the_fewest_and_the_most_steps(tiny_config):
    def steps(**settings):
        config = tiny_config(train__num_steps=None, **settings)
        experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]), _dataset(config))
        return experiment.steps_per_epoch, experiment.num_steps

    assert steps(train__epochs=0.001) == (32, 1)
    assert steps(train__batch_size=1024, train__epochs=3.0) == (1, 3)
    assert steps(train__batch_size=96, train__epochs=2.0) == (10, 20)
    with pytest.raises(ConfigError, match=r"is 1028, more than the 1024 training images.*batch_size=1024 for"):
        steps(train__batch_size=1028)
    for settings, told in (
        ({"equivariance__num_groups": 48}, r"; add some, or give a smaller batch, --config.train.batch_size=1008 for"),
        ({"equivariance__num_groups": 600}, "; add some$"),  # of which a batch of 600 would be groups of one image
        ({"train__micro_batches": 5, "equivariance__num_groups": 3}, "batch_size=1020 for instance$"),
    ):
        with pytest.raises(ConfigError, match=told):
            steps(train__batch_size=1200, **settings)
    few = {"train__batch_size": 2, "equivariance__num_groups": 1, "augment__placement": "decode"}
    with pytest.raises(ConfigError, match=r"epochs is 1000000\.0: 4096000000 steps are more than 2147483647"):
        steps(**few, train__epochs=1e6)


def test_what_is_wrong_with_either_branch_is_known_before_the_data(tiny_config):
    for branch in ("invariance", "equivariance"):
        with pytest.raises(ConfigError, match=rf"augment\.{branch}: .*blur_kernel_size"):
            build.check(tiny_config(**{f"augment.{branch}.blur_kernel_size": 4}), sharding.make_mesh(jax.devices()[:1]))


def test_views_of_half_the_size_have_room_for_the_blur(tiny_config):
    blur = {"blur_kernel_size": 19, "blur_probability": 0.5}
    config = tiny_config(equivariance__term="essl", **{f"augment.invariance.{name}": x for name, x in blur.items()})
    with pytest.raises(ConfigError, match=r"augment\.invariance, at half the size for essl: .*blur_kernel_size"):
        build.build(config, dataset=_dataset(config))


def test_devices_divide_each_part_of_what_is_shared_out(tiny_config):
    eight = sharding.make_mesh(jax.devices()[:8])
    shared = {"equivariance__batch_size": 12, "equivariance__num_groups": 4}
    with pytest.raises(ConfigError, match=r"equivariance\.batch_size is 12, which 8 devices do not divide"):
        build.check(tiny_config(**shared), eight)
    build.check(tiny_config(**shared, equivariance__weight=0.0), eight)
    with pytest.raises(
        ConfigError, match=r"train\.batch_size is 32, which 8 devices in each of 8 micro-batches do not"
    ):
        build.check(tiny_config(train__micro_batches=8), eight)


def test_settings_reach_the_data(tiny_config, monkeypatch):
    asked, images = {}, _dataset(tiny_config())
    monkeypatch.setattr(build.data, "load", lambda name, **named: asked.update(named) or images)
    build.load_data(tiny_config(data__stored_size=20, data__download=True, data__test_fraction=0.3))
    assert (asked["image_size"], asked["download"], asked["test_fraction"]) == (20, True, 0.3)
    for placement in ("device", "host", "split", "decode"):
        build.load_data(tiny_config(augment__placement=placement))
        assert (asked["image_size"], asked["resident"], asked["root"]) == (16, placement == "device", None)


def test_an_evaluation_sees_the_middle_and_draws_nothing(tiny_config):
    config = tiny_config(evaluate__center_fraction=0.875)
    spec = build.evaluation_spec(config)
    assert (spec.size, spec.crop, spec.center_fraction) == (16, "center", 0.875)
    assert (spec.mean, spec.std) == (config.data.mean, config.data.std)
    drawn = {name: value for name, value in vars(spec).items() if name.endswith("_probability")}
    assert len(drawn) == 5 and not any(drawn.values())
    assert spec.rotation_degrees == spec.translation == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"train__micro_batches": 16, "equivariance__num_groups": 8},
        {"train__micro_batches": 8, "equivariance__batch_size": 8, "equivariance__num_groups": 2},
    ],
)
def test_a_part_of_one_image_is_refused(tiny_config, settings):
    with pytest.raises(ConfigError, match=r"^config.train.micro_batches is \d+: that leaves one image of config"):
        build.check(tiny_config(train__batch_size=16, **settings), sharding.make_mesh(jax.devices()[:1]))
    without = {"model__backbone": "vit_small", "model__stem": "cifar", "model__head_batch_norm": False}
    build.check(tiny_config(train__batch_size=16, **settings, **without), sharding.make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize("probed", [False, True])
def test_each_device_takes_the_kernels_gradients_of_its_own_images(tiny_config, probed):
    config = tiny_config(evaluate__online_probe=probed)
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:2]))
    probe = OnlineProbe(10) if probed else None
    state, batches = programs.arguments(experiment, (32, 32, 3))
    width = 8 * config.model.width  # of a ResNet-10's features
    given = (state, jax.eval_shape(lambda: probe.init(width))) if probe else state
    assert "shard_map" in str(programs.step(experiment, probe).trace(given, batches).jaxpr)
