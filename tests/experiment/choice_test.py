"""Settings without a value: chosen so that a run can start, kept when it goes on."""

import json
import random

import jax
import numpy as np
import pytest

from care_jax.configs import base, digits, image_folder, proteins
from care_jax.data import DataSet, Examples
from care_jax.devices import sharding
from care_jax.experiment import build, choice
from care_jax.experiment.config import ConfigError, leaves
from care_jax.experiment.continuation import changes, check_goes_on, cut_batches, kept_choices
from care_jax.experiment.settings import CHOSEN, COLORS

MESH = sharding.make_mesh(jax.devices()[:1])


def _chosen(num_examples: int, mesh=MESH, **settings) -> dict:
    config = choice.filled(image_folder.get_config(), {name.replace("__", "."): x for name, x in settings.items()})
    return choice.choose(config, mesh, num_examples)


@pytest.mark.parametrize(
    ("num_examples", "settings", "batch_size", "groups", "epochs"),
    [
        (270, {}, 64, 4, 400.0),
        (45, {}, 16, 1, 400.0),
        (9, {}, 8, 1, 400.0),
        (5000, {}, 64, 4, 24.0),
        (10**7, {}, 64, 4, 1.0),
        (5000, {"data__image_size": 128}, 64, 4, 6.0),
        (5000, {"train__batch_size": 96}, None, 4, 24.0),
        (5000, {"train__batch_size": 96, "equivariance__batch_size": 64}, None, 4, 24.0),
        (5000, {"equivariance__num_groups": 12}, 72, None, 24.0),
        (45, {"equivariance__num_groups": 16}, 32, None, 400.0),  # no groups of one image
        (45, {"equivariance__batch_size": 20, "train__micro_batches": 4}, 24, 1, 400.0),
        (5000, {"train__epochs": 7.0}, 64, 4, None),
    ],
)
def test_by_the_number_of_images_and_what_is_given(num_examples, settings, batch_size, groups, epochs):
    found = _chosen(num_examples, **settings)
    given = {name.replace("__", ".") for name in settings}
    expected = {"train.batch_size": batch_size, "equivariance.num_groups": groups, "train.epochs": epochs}
    assert {name: found.get(name) for name in expected} == expected
    assert found.keys() == {*CHOSEN} - given and found["model.width"] == 32


@pytest.mark.parametrize("settings", [{"equivariance__num_groups": 5}, {"train__micro_batches": 3}])
def test_the_same_on_one_core_and_on_more(settings):
    one, two = (_chosen(1000, sharding.make_mesh(jax.devices()[:count]), **settings) for count in (1, 2))
    assert one == two and one["train.batch_size"] % 2 == 0


def test_more_where_the_device_is_no_cpu():
    class Gpus:
        devices = np.array([type("Gpu", (), {"platform": "gpu"})] * 4)
        size = 4

    found = _chosen(50_000, Gpus())
    assert (found["train.batch_size"], found["equivariance.num_groups"]) == (256, 16)
    assert (found["model.width"], found["train.epochs"]) == (64, 20.0)


def test_whatever_is_chosen_passes_the_checks_that_settings_pass():
    draw = random.Random(0)
    for _ in range(30):
        given = {
            "train.batch_size": draw.choice([None, None, 32, 40, 64, 96]),
            "equivariance.num_groups": draw.choice([None, None, 1, 2, 3, 4]),
            "equivariance.batch_size": draw.choice([None, None, 16, 24]),
            "train.micro_batches": draw.choice([1, 2, 4]),
        }
        config = choice.filled(image_folder.get_config(), {"data.root": "a", **given})
        mesh = sharding.make_mesh(jax.devices()[: draw.choice([1, 1, 2, 4])])
        parted = all(given[name] is None or given[name] % (mesh.size * given["train.micro_batches"]) == 0
                     for name in ("train.batch_size", "equivariance.batch_size"))  # fmt: skip
        images = given["equivariance.batch_size"] or given["train.batch_size"]
        grouped = None in (images, given["equivariance.num_groups"]) or images % given["equivariance.num_groups"] == 0
        if parted and grouped:
            chosen = choice.filled(config, choice.choose(config, mesh, draw.randint(16, 10**6)))
            build.check(chosen, mesh)
            assert not choice.without_value(chosen)
            build.check(config, mesh)


@pytest.mark.parametrize("word", ["dataset", ("dataset",)])
def test_the_colours_of_the_data_set_by_their_word(word):
    """As a file gives it, and as the command line does."""
    config = base.get_config()
    with config.ignore_type():
        config.data.mean = word
    build.check(config, MESH)
    assert choice.without_value(config) == ["data.mean"]
    with config.ignore_type():
        config.data.std = ("datset",)
    with pytest.raises(ConfigError, match=r"config\.data\.std is .*give a tuple of 3 numbers, or 'dataset' for"):
        build.check(config, MESH)


def test_an_experiment_has_them_all_and_says_which(tiny_config):
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), np.uint8)
    examples = Examples(images)
    config = choice.filled(tiny_config(), dict.fromkeys((*COLORS, "train.batch_size", "equivariance.num_groups")))
    experiment = build.build(config, MESH, DataSet("mine", examples, examples, examples, {}))
    assert experiment.chosen.keys() == {*COLORS, "train.batch_size", "equivariance.num_groups"}
    assert experiment.config.train.batch_size == experiment.plan.batch_size == 16
    assert experiment.plan.invariance.mean == experiment.config.data.mean
    np.testing.assert_allclose(experiment.config.data.mean, (images / 255).mean((0, 1, 2)), atol=1e-4)
    assert config.train.batch_size is None
    assert "--config.train.batch_size=16 " in choice.described(experiment.chosen) + " "


def test_what_a_run_chose_is_kept_when_it_goes_on(tiny_config, tmp_path):
    now = choice.filled(tiny_config(), {"train.batch_size": None, "data.mean": None})
    begun = choice.filled(now, {"train.batch_size": 24, "data.mean": [0.1, 0.2, 0.3]})
    assert kept_choices(begun, now) == {"train.batch_size": 24, "data.mean": [0.1, 0.2, 0.3]}
    check_goes_on(begun, now, tmp_path)
    assert not changes(begun, now)
    with pytest.raises(ConfigError, match=r"\(config.train.batch_size: 24 -> 32\)"):
        check_goes_on(begun, choice.filled(now, {"train.batch_size": 32}), tmp_path)
    assert leaves(choice.filled(now, kept_choices(begun, now)))["train.batch_size"] == 24


@pytest.mark.parametrize(
    ("settings", "chosen", "sizes"),
    [
        ({}, 65, [128]),
        ({"train__batch_size": None}, 65, [65]),
        ({"train__batch_size": None}, 0, []),
        ({"train__micro_batches": 4, "equivariance__batch_size": 50}, 0, [32, 12]),
        ({"equivariance__batch_size": 50, "equivariance__weight": 0.0}, 0, [128]),
        ({"train__batch_size": "many"}, 0, []),
        ({"train__micro_batches": 0}, 0, []),
        ({"train": None}, 0, []),
    ],
)
def test_what_devices_have_to_divide_is_known_before_settings_are_checked(settings, chosen, sizes, tmp_path):
    config = digits.get_config()
    with config.unlocked(), config.ignore_type():
        for name, value in settings.items():
            section, _, key = name.partition("__")
            (config[section] if key else config)[key or section] = value
    assert choice.cut_batches(config, chosen) == sizes
    assert cut_batches(config, tmp_path) == choice.cut_batches(config)
    (tmp_path / "config.json").write_text(json.dumps({"train": {"batch_size": chosen or "many"}}))
    assert cut_batches(config, tmp_path) == sizes


def test_clouds_have_no_colours_and_count_as_one():
    config = choice.filled(proteins.get_config(), dict.fromkeys(("train.batch_size", "model.width", "train.epochs")))
    assert set(choice.without_value(config)) == {"train.batch_size", "model.width", "train.epochs"}
    build.check(config, MESH)
    found = choice.choose(config, MESH, 1000)
    assert found == {"train.batch_size": 64, "model.width": 32, "train.epochs": 120.0}
    clouds = np.ones((100, 5, 4), np.float32)
    examples = Examples(clouds)
    experiment = build.build(config, MESH, DataSet("mine", examples, examples, examples, {}))
    assert experiment.config.train.batch_size == experiment.plan.batch_size == 16
    assert experiment.encoder.backbone.num_features == 2 * 32
