"""A setting that was given and does nothing is told of, one that does something is not; of the data it is refused."""

import re
from unittest.mock import Mock

import pytest
from absl import flags
from ml_collections import config_flags

from care_jax import methods
from care_jax.command_line import given_settings, parse_flags
from care_jax.configs import base, cifar10, digits, fashion, proteins
from care_jax.experiment.config import leaves
from care_jax.experiment.settings import ConfigError
from care_jax.experiment.unused import _REASONS, check_data, of_schedules, of_views, report, unused


def changed(config, **values):
    """The configuration with values of dotted names, dots written as two underscores."""
    for name, value in values.items():
        *sections, key = name.split("__")
        section = config
        for part in sections:
            section = section[part]
        with section.ignore_type():
            section[key] = value
    return config


# name -> (what switches it on, what it says without). Of cifar10.py, where nothing is set beside the base's.
CASES = {
    "train.epochs": ({"train__num_steps": None}, {"train__num_steps": 600}, "num_steps is 600, which goes first"),
    "optimizer.momentum": ({"optimizer__name": "lars"}, {}, "config.optimizer.name is adam"),
    "optimizer.step_epochs": ({"optimizer__schedule": "step"}, {}, "config.optimizer.schedule is constant"),
    "optimizer.decay": ({}, {"optimizer__weight_decay": 0.0}, "config.optimizer.weight_decay is 0"),
    "evaluate.probe.momentum": ({"evaluate__probe__optimizer": "sgd"}, {}, "config.evaluate.probe.optimizer is adam"),
    "evaluate.finetune.epochs": ({"evaluate__finetune__enabled": True}, {}, "evaluate.finetune.enabled is False"),
    "data.stored_size": (
        {"data__stored_size": 64},
        {"data__stored_size": 64, "data__name": "image_folder", "augment__placement": "host"},
        "config.augment.placement is host",
    ),
    "augment.num_threads": (
        {"augment__num_threads": 2, "augment__placement": "host"},
        {"augment__num_threads": 2},
        "config.augment.placement is device",
    ),
    "loss.temperature": ({}, {"loss__method": "byol"}, "config.loss.method is byol, which has none"),
    "equivariance.on": ({}, {"equivariance__weight": 0.0}, "config.equivariance.weight is 0"),
    "equivariance.num_groups": ({}, {"equivariance__weight": 0.0}, "config.equivariance.weight is 0"),
    "equivariance.draws": ({}, {"equivariance__term": "essl"}, "config.equivariance.term is essl"),
    "augment.invariance.crop_scale": ({}, {"augment__invariance__crop": "center"}, "invariance.crop is center"),
    "augment.equivariance.hue": ({}, {"augment__equivariance__jitter_probability": 0.0}, "jitter_probability is 0"),
    "augment.invariance.blur_sigma": ({}, {"augment__invariance__blur_probability": 0.0}, "blur_probability is 0"),
    "augment.invariance.center_fraction": ({"augment__invariance__crop": "center"}, {}, "crop is random_resized"),
    "augment.equivariance.solarize_threshold": (
        {"augment__equivariance__solarize_probability": 0.2}, {}, "solarize_probability is 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_switched_off_is_told_and_why(name):
    on, off, reason = CASES[name]
    assert unused(changed(cifar10.get_config(), **on), [name]) == []
    (line,) = unused(changed(cifar10.get_config(), **off), [name])
    assert line.startswith(f"config.{name} is given, and has no effect: ") and reason in line


def test_devices_need_not_divide_the_batch_for_a_word_on_what_has_no_effect():
    said = []
    config = changed(digits.get_config(), train__batch_size=50, equivariance__num_groups=5)
    report(config, ["evaluate.finetune.epochs"], said.append)
    assert len(said) == 1 and said[0].startswith("config.evaluate.finetune.epochs is given, and has no effect")


def test_all_settings_of_the_rules_are_settings():
    assert set(_REASONS) <= set(leaves(base.get_config()))


def test_groups_that_a_chosen_batch_goes_by_have_an_effect():
    config = changed(cifar10.get_config(), equivariance__weight=0.0, train__batch_size=None)
    assert unused(config, ["equivariance.num_groups", "equivariance.batch_size"]) == []


def test_groups_of_a_term_of_ones_own_have_an_effect(monkeypatch):
    monkeypatch.setitem(methods.TERMS, "mine", Mock(needs=("equivariance",), settings={}))
    config = changed(cifar10.get_config(), equivariance__term="mine")
    assert unused(config, ["equivariance.num_groups", "equivariance.draws"]) == []


def test_no_steps_go_before_epochs_too():
    assert len(unused(changed(cifar10.get_config(), train__num_steps=0), ["train.epochs"])) == 1


def test_other_settings_are_not_told_of():
    assert unused(digits.get_config(), ["seed", "train.batch_size", "optimizer.learning_rate", "data.name"]) == []
    assert unused(changed(digits.get_config(), train__epochs=None), ["train.epochs"]) == []  # taken back


@pytest.mark.parametrize(
    ("config", "name", "value", "having"),
    [
        (digits, "data__root", "images", "fashion, image_folder, cifar10"),
        (digits, "data__download", True, "cifar10, cifar100, stl10, imagenet2012"),
        (fashion, "data__test_fraction", 0.2, "image_folder, proteins"),
        (cifar10, "data__class_file", "classes.txt", "imagenet2012"),
    ],
)
def test_settings_that_the_data_lacks_are_refused(config, name, value, having):
    given = changed(config.get_config(), **{name: value})
    dotted = name.replace("__", ".")
    with pytest.raises(ConfigError, match=rf"^config\.{dotted} is given, and {given.data.name} has none; {having}"):
        check_data(given, [dotted])
    check_data(given, [])  # a file's own stays: it is the same for all


def test_settings_that_the_data_has_are_not_refused():
    check_data(changed(fashion.get_config(), data__root="images"), ["data.root"])
    check_data(changed(digits.get_config(), data__download=False), ["data.download"])


def test_what_the_command_line_gave_is_known(monkeypatch):
    argv = ["main", "--config=configs/digits.py", "--config.train.epochs=5", "--config.evaluate.finetune.epochs=3"]
    monkeypatch.setattr("sys.argv", argv)  # where ml_collections looks settings up
    flag_values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=flag_values)
    parse_flags(argv, "", flag_values)
    names = given_settings(flag_values)
    assert sorted(names) == ["evaluate.finetune.epochs", "train.epochs"]
    assert len(unused(flag_values["config"].value, names)) == 2


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({}, []),
        ({"optimizer__schedule": "step", "optimizer__step_epochs": (20.0,)}, []),
        (
            {"optimizer__schedule": "step"},
            [r"optimizer.schedule is step, but none of .* lies within the 54\.5 epochs"],
        ),
        (
            {"optimizer__schedule": "step", "optimizer__step_epochs": (0.04, 20.0)},
            ["one of optimizer.step_epochs rounds to step 0"],
        ),
        (
            {"optimizer__schedule": "step", "optimizer__warmup_epochs": 10.0, "optimizer__step_epochs": (5.0, 20.0)},
            ["optimizer.step_epochs has 5, within the 10 epochs of warm-up, which rises to the full rate all the same"],
        ),
        ({"optimizer__warmup_epochs": 0.04}, [r"optimizer.warmup_epochs=0\.04 rounds to no step: there is no warm-up"]),
        (
            {"evaluate__probe__schedule": "step", "evaluate__probe__epochs": 20},
            ["evaluate.probe.schedule is step, but none of .* lies within its 20 epochs"],
        ),
    ],
)
def test_schedules_that_do_nothing_in_a_run_of_this_length_are_told_of(settings, lines):
    found = of_schedules(changed(digits.get_config(), **settings), steps_per_epoch=11, num_steps=600)
    assert len(found) == len(lines) and all(re.match(line, one) for line, one in zip(lines, found, strict=True))


@pytest.mark.parametrize(
    ("settings", "of_files", "lines"),
    [
        ({"augment__placement": "host"}, True, ["the equivariance views are cut from the central square"]),
        ({}, True, ["the equivariance views are cut from the central square, brought to 64 x 64 pixels before"]),
        ({}, False, []),
        ({"augment__equivariance__crop": "center"}, True, []),
        ({"equivariance__weight": 0.0}, True, []),
        (
            {"augment__invariance__antialias": False, "augment__equivariance__crop": "center"},
            True,
            [r"augment.invariance.antialias is False, but files .*augment.placement=decode\) are made smaller with"],
        ),
        ({"augment__invariance__antialias": False}, False, []),
        (
            {"equivariance__term": "equimod", "augment__invariance__rotation_degrees": 5.0},
            False,
            ["equimod predicts what crops, flips and colours do; of blur, rotation, which augment.invariance draws"],
        ),
        ({"equivariance__term": "augself"}, False, []),
        (
            {"equivariance__on": "head", "model__head_batch_norm": False},
            False,
            ["equivariance.on is head, and without model.head_batch_norm nothing keeps that head from"],
        ),
        ({"equivariance__on": "head", "model__head_batch_norm": True}, False, []),
    ],
)
def test_views_that_are_less_than_their_settings_seem_to_say_are_told_of(settings, of_files, lines):
    config = base.get_config()
    config.data.image_size, config.augment.placement = 64, "decode"
    config.data.mean = config.data.std = (0.5, 0.5, 0.5)
    config.augment.invariance.blur_probability = 0.5
    found = of_views(changed(config, **settings), of_files)
    assert len(found) == len(lines) and all(re.match(line, one) for line, one in zip(lines, found, strict=True)), found


def test_a_branch_that_draws_nothing_is_told_of():
    config = base.for_clouds()
    config.data.name = "proteins"
    told = of_views(config, of_files=False)
    assert [line.partition(" draws nothing")[0] for line in told] == ["augment.invariance", "augment.equivariance"]
    turned = proteins.get_config()
    turned.equivariance.term = "equimod"
    (line,) = of_views(turned, of_files=False)
    assert line.startswith("equimod predicts what rotations and sizes do; of jitter, dropping, which")
    assert of_views(proteins.get_config(), of_files=False) == of_views(digits.get_config(), of_files=False) == []
    images = digits.get_config()
    shared = images.augment.equivariance
    shared.jitter_probability = shared.blur_probability = 0.0
    (line,) = of_views(images, of_files=False)
    assert line.startswith("augment.equivariance draws nothing")
