"""Settings become the ranges of images or of clouds, and the shapes of them; the two kinds are not mixed."""

import json
import re

import jax
import numpy as np
import pytest

from care_jax.augment import AugmentSpec, CloudSpec
from care_jax.configs import base, proteins
from care_jax.data import DataSet, Examples
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError, differences, from_plain, validate
from care_jax.experiment.inputs import augment_spec, check_embedded, evaluation_spec, resident_shape, stored_side
from care_jax.experiment.settings import BRANCHES, of_clouds, only_of
from tests.experiment.config_test import BASES, ODD, outcome, put
from tests.saved_clouds import make_cloud_config


def test_ranges_of_clouds():
    config = base.for_clouds()
    assert all(augment_spec(config, branch) == CloudSpec() for branch in BRANCHES)
    config.augment.equivariance.update(rotation=True, scaling=0.2, jitter=0.1, dropping=0.3)
    assert augment_spec(config, "equivariance") == CloudSpec(rotation=True, scaling=0.2, jitter=0.1, dropping=0.3)
    assert augment_spec(config, "invariance") == evaluation_spec(config) == CloudSpec()
    config.augment.equivariance.dropping = 1.5
    with pytest.raises(ConfigError, match=r"^config\.augment\.equivariance: CloudSpec\.dropping must be .*; got 1\.5$"):
        augment_spec(config, "equivariance")


def test_ranges_of_images(tiny_config):
    config = tiny_config(data__stored_size=20, evaluate__center_fraction=0.5)
    for spec in (augment_spec(config, "invariance"), evaluation_spec(config)):
        assert isinstance(spec, AugmentSpec) and spec.size == 16 and spec.mean == tuple(config.data.mean)
    assert evaluation_spec(config).center_fraction == 0.5


def test_shapes_of_what_is_kept_in_memory(tiny_config):
    assert resident_shape(tiny_config()) == (16, 16, 3)
    assert resident_shape(tiny_config(data__stored_size=20)) == (20, 20, 3)
    assert stored_side(tiny_config(data__stored_size=20)) == 20
    config = proteins.get_config()
    assert resident_shape(config) == (128, 4)
    config.data.window_lengths = (30, 70, 50)
    assert resident_shape(config) == (70, 4)


def test_a_backbone_and_a_data_set_are_of_one_kind(tiny_config):
    check_embedded(tiny_config(), clouds=False)
    check_embedded(proteins.get_config(), clouds=True)
    with pytest.raises(ConfigError, match=r"'digits', a data set of clouds .* 'resnet10', which embeds images; start"):
        check_embedded(tiny_config(), clouds=True)
    with pytest.raises(ConfigError, match=r"'deep_set', which embeds clouds .* 'proteins', a data set of images; sta"):
        check_embedded(proteins.get_config(), clouds=False)


def test_a_data_set_that_is_handed_in_is_of_that_kind_too(tiny_config):
    clouds, images = Examples(np.ones((40, 5, 4), np.float32)), Examples(np.zeros((40, 16, 16, 3), np.uint8))
    mesh = sharding.make_mesh(jax.devices()[:1])
    for config, examples in ((tiny_config(), clouds), (proteins.get_config(), images)):
        with pytest.raises(ConfigError, match="which embeds"):
            build.build(config, mesh, DataSet("mine", examples, examples, examples, {}))


KINDS = {
    "deep_set": (
        "digits",
        {"model.backbone": "deep_set"},
        "model.backbone is 'deep_set', which embeds clouds of points, but config.augment.equivariance.* is a setting "
        "of images; choose another backbone, or start from configs/proteins.py",
    ),
    "resnet18": (
        "proteins",
        {"model.backbone": "resnet18"},
        "model.backbone is 'resnet18', which embeds images, but config.augment.equivariance.* is a setting of clouds "
        "of points; choose another backbone, or start from a configuration of images, configs/digits.py",
    ),
    "digits": ("proteins", {"data.name": "digits"}, "'deep_set', which embeds clouds of points, but .* is 'digits', a"),
    # Without a look at what is prepared of TensorFlow Datasets.
    "cifar10": ("proteins", {"data.name": "cifar10"}, "a data set of images; start from configs/digits.py"),
    "proteins": ("digits", {"data.name": "proteins"}, "data.name is 'proteins', a data set of clouds of points, but"),
    "host": ("proteins", {"augment.placement": "host"}, "'host', but clouds of points are drawn on the device alone"),
    "decode": ("proteins", {"augment.placement": "decode"}, "'decode', but clouds .*; use 'device'"),
    "median": ("proteins", {"model.pooling": "median"}, "pooling is 'median'; choose one of mean, sum, max"),
    "two": ("proteins", {"data.window_lengths": (64, 2)}, "window_lengths is 2; it must be at least 4"),
    "stride": ("proteins", {"data.window_stride": 0}, "window_stride is 0; it must be at least 1"),
    "dropping": ("proteins", {"augment.invariance.dropping": 1.0}, "augment.invariance: CloudSpec.dropping must be"),
    "of images": ("proteins", {"data.image_size": 32}, "but config.data.image_size is a setting of images; ch"),
    "of images, a branch": ("proteins", {"augment.invariance.hue": 0.1}, "config.augment.invariance.hue is a setting"),
    "of clouds": (
        "digits",
        {"model.pooling": "mean"},
        "'resnet18', .* config.model.pooling is a setting of clouds",
    ),
    "groups": ("proteins", {"equivariance.num_groups": 5}, "does not divide the 128 clouds of config.train.batch_size"),
    "pairs": ("proteins", {"equivariance.num_groups": 128}, "groups of one cloud have no pairs"),
    "essl": (
        "proteins",
        {"equivariance.term": "essl"},
        "'essl', which tells the quarter turns .*; for clouds of points there are care, equimod",
    ),
    "augself": ("proteins", {"equivariance.term": "augself"}, "'augself', which tells crops and colours; for clouds"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_and_clouds_are_not_mixed(kind):
    """Known before any data is."""
    base, changed, line = KINDS[kind]
    config = BASES[base]()
    for name, value in changed.items():
        put(config, name, value)
    message = outcome(config)
    assert message is not None and re.search(line, message), message


def test_settings_of_one_kind_alone():
    assert only_of("data.image_size") == only_of("augment.invariance.hue") == "images"
    assert only_of("model.pooling") == only_of("augment.equivariance.rotation") == "clouds of points"
    assert only_of("data.root") == only_of("model.width") == only_of("none") == only_of("data") == ""


@pytest.mark.parametrize("value", ODD, ids=lambda _: "")
def test_which_kind_it_is_can_always_be_told(value):
    for name in ("model", "model.backbone"):
        config = BASES["proteins"]()
        put(config, name, value)
        assert of_clouds(config) is False
    assert of_clouds(BASES["proteins"]()) and not of_clouds(BASES["base"]())


def test_a_run_on_clouds_is_read_back_as_it_was(tmp_path):
    """Nothing that only images have is added, whatever came later."""
    config = make_cloud_config(tmp_path)
    again = from_plain(json.loads(json.dumps(config.to_dict())))
    assert differences(config.to_dict(), again.to_dict()) == []
    validate(again, {})
    before = config.to_dict()
    del before["evaluate"]["finetune"], before["train"]["loggers"]
    again = from_plain(json.loads(json.dumps(before)))
    assert differences(config.to_dict(), again.to_dict()) == []
