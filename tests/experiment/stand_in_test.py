"""Data sets that are known by their size; each number is that of the loader, or of the data set's makers."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from care_jax import data
from care_jax.configs import proteins
from care_jax.data.proteins import PACKAGE
from care_jax.experiment import build, stand_in
from care_jax.experiment.stand_in import SizeError, StandIn
from tests.saved_clouds import make_cloud_config


def test_the_digits_are_as_many_as_are_loaded():
    assert stand_in.SIZES["digits"] == len(data.load("digits", image_size=8).pretrain)


def test_every_named_data_set_is_known_but_one_s_own_folder():
    assert stand_in.SIZES.keys() == data.DATA_SETS.keys() - {"image_folder", "proteins"}


def test_pieces_of_proteins_are_counted():
    pytest.importorskip("gemmi", reason="the extra `proteins`")
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip("the extra `proteins`")
    config = proteins.get_config()
    config.data.window_lengths, config.data.test_fraction = (100, 90), 0.3
    counted = stand_in.images(config)
    assert counted == StandIn(len(build.load_data(config).pretrain), "pieces of the structures")
    assert stand_in.image_shape(config) == (100, 4)
    assert stand_in.images(config, 77) == StandIn(77, "given")


def test_images_are_counted_by_name_by_flag_or_in_the_folder(tiny_config, tmp_path):
    config = tiny_config(data__name="imagenet2012")
    assert stand_in.images(config) == StandIn(1_281_167, "the data set's")
    assert stand_in.images(config, 77) == StandIn(77, "given")
    config.data.class_file = "imagenet100.txt"
    found = stand_in.images(config)
    assert len(found) == 126_689 and found.source.startswith("assumed")
    for i in range(20):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"{i}.png")
    config = tiny_config(data__name="image_folder", data__root=str(tmp_path), data__test_fraction=0.1)
    assert stand_in.images(config) == StandIn(18, "files in the folder")


def test_what_is_not_known_is_asked_for(tiny_config, tmp_path):
    with pytest.raises(SizeError, match="give --num_examples=10000 for instance, or the folder"):
        stand_in.images(tiny_config(data__name="image_folder"))
    with pytest.raises(SizeError, match=r"can't count the images in .*none"):
        stand_in.images(tiny_config(data__name="image_folder", data__root=str(tmp_path / "none")))


def test_a_stand_in_has_no_pixels(tiny_config):
    examples = stand_in.dataset("digits", stand_in.images(tiny_config())).pretrain
    assert len(examples) == 1_438 and not examples.resident
    with pytest.raises(TypeError, match="has no images"):
        examples.encoded.read(0)


def test_a_folder_in_ones_home_is_found(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").mkdir()
    for name in "abcd":
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"")
    assert len(stand_in.images(tiny_config(data__name="image_folder", data__root="~/photos"))) == 3
    with pytest.raises(ValueError, match=r"^config.data.root=gs://b is an address"):
        stand_in.images(tiny_config(data__name="image_folder", data__root="gs://b"))


def test_resident_images_have_the_size_that_is_stored(tiny_config):
    assert stand_in.image_shape(tiny_config()) == (16, 16, 3)
    assert stand_in.image_shape(tiny_config(data__stored_size=20)) == (20, 20, 3)
    assert stand_in.image_shape(tiny_config(data__name="image_folder")) == (16, 16, 3)
    assert stand_in.image_shape(tiny_config(data__name="image_folder", augment__placement="decode")) is None
    assert stand_in.image_shape(tiny_config(data__name="imagenet2012", augment__placement="decode")) is None


def test_clouds_are_counted_in_a_folder(saved_clouds, tmp_path):
    config = saved_clouds.config
    assert stand_in.images(config) == StandIn(len(build.load_data(config).pretrain), "pieces of the structures")
    with pytest.raises(data.DataError, match=r"no protein structures"):
        stand_in.images(make_cloud_config(tmp_path))
    other = make_cloud_config(tmp_path, data__name="of_my_own")
    with pytest.raises(SizeError, match=r"^the number of training clouds of of_my_own is not known: give --num_examp"):
        stand_in.images(other)
