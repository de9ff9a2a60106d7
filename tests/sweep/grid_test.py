"""The grid: values by the settings' types, every mistake one line, and a folder for each combination alone."""

import doctest
from pathlib import Path

import pytest

from care_jax.command_line import UsageError
from care_jax.sweep import grid
from tests.saved_clouds import make_cloud_config


def test_values_are_of_the_settings_types():
    given = [
        "equivariance.weight=0,0.03",
        "config.loss.method=simclr, moco",
        "model.head_hidden_sizes=(512),(512, 256),(),[8,]",
        "evaluate.monitor=(knn,'linear_probe@5')",
        "train.num_steps=20,None",
        "model.remat=true,0",
        "data.class_file=\"a,b\",''",
    ]
    assert grid.parse(given) == {
        "equivariance.weight": [0.0, 0.03],
        "loss.method": ["simclr", "moco"],
        "model.head_hidden_sizes": [(512,), (512, 256), (), (8,)],
        "evaluate.monitor": [("knn", "linear_probe@5")],
        "train.num_steps": [20, None],
        "model.remat": [True, False],
        "data.class_file": ["a,b", ""],
    }
    assert grid.parse([]) == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("equivariance.wieght=1", "'equivariance.wieght' is not a setting; did you mean 'equivariance.weight'?"),
        ("weight=1", "is not a setting; did you mean 'equivariance.weight'?"),
        ("equivariance=1", "equivariance is a section; give one of its settings, equivariance."),
        ("equivariance.weight", "give values, --set equivariance.weight=1,2"),
        ("equivariance.weight=", "give values"),
        ("equivariance.weight=1,,2", "a value is empty"),
        ("equivariance.weight=1,", "a value is empty"),
        ("equivariance.weight=a", "a is not a number"),
        ("equivariance.weight=0,0.0", "0.0 is there twice"),
        ("train.batch_size=3.5", "3.5 is not a whole number"),
        ("model.remat=maybe", "maybe is not True or False"),
        ("model.head_hidden_sizes=512,256", "512 is no tuple; give tuples in brackets"),
        ("model.head_hidden_sizes=(512,256", "a bracket has no counterpart"),
        ("loss.method='simclr", "a quote has no counterpart"),
        ("seed=0,1", "are given by --seeds"),
    ],
)
def test_mistakes_are_one_line(given, told):
    with pytest.raises(UsageError) as raised:
        grid.parse([given])
    assert told in str(raised.value) and str(raised.value).startswith(f"--set {given}: ")
    with pytest.raises(UsageError, match="set twice"):
        grid.parse(["equivariance.weight=1", "equivariance.weight=2"])


def test_every_combination_has_a_folder_that_any_file_system_takes():
    combinations = [
        {"a": value}
        for value in (0.0, 0.1234567, 0.12345678, 1e-5, 1e20, None, "None", True, (), ("",), "", "x/y", "x_y", "X", "x")
    ]
    combinations += [{"a": ("x+y",)}, {"a": ("x", "y")}, {"a": "x", "b": "y"}, {"a": "x,b=y"}, {"a": "x" * 400}]
    names = [grid.name(one) for one in combinations]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert len(name) < 200 and not set(name) & set('/\\:*?"<>| \0') and name.isascii() and name.isprintable()
    assert doctest.testmod(grid).failed == 0
    assert names[:4] == ["a=0", "a=0.1234567", "a=0.12345678", "a=1e-05"]


def test_runs_are_the_product_with_the_seeds_from_the_configurations_on(tiny_config):
    config = tiny_config(seed=7)
    before = config.to_dict()
    made = grid.runs(config, {"equivariance.weight": [0.0, 1.0], "train.num_steps": [2, None]}, Path("w"), seeds=2)
    found = [(r.config.equivariance.weight, r.config.train.num_steps, r.config.seed) for one in made for r in one]
    assert found == [(w, n, s) for w in (0.0, 1.0) for n in (2, None) for s in (7, 8)]
    assert str(made[1][1].workdir) == "w/equivariance.weight=0,train.num_steps=None/seed=8"
    assert config.to_dict() == before  # which no run shares a section with
    assert [str(run.workdir) for run in grid.runs(config, {}, Path("w"), seeds=1)[0]] == ["w/seed=7"]


def test_a_setting_of_images_is_refused_for_clouds_and_vice_versa(tiny_config, tmp_path):
    clouds = make_cloud_config(tmp_path)
    jitters = grid.runs(clouds, grid.parse(["augment.equivariance.jitter=0,0.1"]), Path("w"), seeds=1)
    assert [run.config.augment.equivariance.jitter for (run,) in jitters] == [0.0, 0.1]
    for config, given, told in (
        (clouds, "data.image_size=8,16", "it is one of images, and the configuration is of clouds of points"),
        (clouds, "augment.invariance.hue=0.1", "it is one of images, and the configuration is of clouds of points"),
        (tiny_config(), "model.pooling=sum", "it is one of clouds of points, and the configuration is of images"),
    ):
        name = given.partition("=")[0]
        with pytest.raises(UsageError, match=f"^--set {name}: the configuration has no such setting; {told}$"):
            grid.runs(config, grid.parse([given]), Path("w"), seeds=1)
