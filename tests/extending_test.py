"""docs/extending.md and docs/clouds.md work as printed: what they register trains, in both placements, and goes on."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import ml_collections
import numpy as np
import pytest

from care_jax import augment, data, methods, models, pretrained
from care_jax.configs import digits
from care_jax.data import DataError
from care_jax.devices import sharding
from care_jax.evaluate import knn
from care_jax.evaluate.evaluation import Evaluation
from care_jax.experiment import build, extensions
from care_jax.experiment.architecture import make_encoder
from care_jax.experiment.config import ConfigError, differences, from_plain, read_config, validate
from care_jax.export import files, lines
from care_jax.run import run, train
from care_jax.train.placements import PLACEMENTS
from care_jax.workdir import claim, plain, recover_config

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
REGISTRIES = (augment.OPERATIONS, data.DATA_SETS, models.BACKBONES, methods.METHODS, methods.TERMS)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page's modules, importable; what they register is taken back."""
    printed = PAGE.read_text() + (PAGE.parent / "clouds.md").read_text()
    for file, text in re.findall(r"```python\n# (my_\w+\.py)[^\n]*\n(.*?)```", printed, re.DOTALL):
        with (tmp_path / file).open("a") as module:
            module.write(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = [dict(registry) for registry in REGISTRIES]
    yield tmp_path
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)
    for name in ("my_lab", "my_config", "my_clouds"):
        sys.modules.pop(name, None)


def _config(**changes) -> ml_collections.ConfigDict:
    import my_config

    config = my_config.get_config()
    small = {"train.num_steps": 2, "evaluate.num_augmentations": 1, "evaluate.probe.num_seeds": 1}
    for branch in ("invariance", "equivariance"):  # what would take long to compile
        small |= {f"augment.{branch}.jitter_probability": 0.0, f"augment.{branch}.blur_probability": 0.0}
    config.update_from_flattened_dict(small | {name.replace("__", "."): value for name, value in changes.items()})
    return config


@pytest.mark.slow
def test_the_page_trains_goes_on_and_is_evaluated_again(page, command, capsys):
    begun = build.build(_config())
    with claim(page / "run", begun.config):
        assert train(begun, page / "run").finished
    assert set(read_config(page / "run").augment.equivariance) >= {"posterize_probability", "posterize_levels"}
    assert run(_config(train__num_steps=3), page / "run")
    assert "going on from step 2 of 3" in capsys.readouterr().err
    command.evaluate_again(page / "run", read_config(page / "run"))


@pytest.mark.slow
def test_host_and_device_make_the_same_views(page):
    made = {}
    for placement in ("device", "host"):
        experiment = build.build(_config(augment__placement=placement))
        batch = next(build.make_batches(experiment, 0))
        made[placement] = PLACEMENTS[placement](experiment.plan, batch, experiment.plan.uniforms(0)).equivariance
    np.testing.assert_allclose(made["host"], made["device"], atol=1e-5)


def test_an_nnx_module_is_a_backbone(page):
    experiment = build.build(_config(model__backbone="pixels"))
    features = build.abstract_state(experiment).params["backbone"]
    assert experiment.dataset.name == "stripes" and features


@pytest.mark.slow
def test_the_backbone_of_the_page_is_exported_and_begun_from(page):
    """The printed lines call it as the registry's entry says: with `stem`, `width` and `dtype`."""
    out = str(page / "w.msgpack")
    config = _config(model__init_from=out)
    encoder = make_encoder(config)
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    variables = jax.device_get(encoder.init(jax.random.key(1), images))
    settings = {name: config.model[name] for name in ("width", "stem")}
    files.write(
        page / "w.msgpack",
        "flax",
        variables,
        head=False,
        preprocessing=files.describe(config),
        run={"backbone": "patches", **settings},
    )
    made: dict = {}
    exec(lines.flax_lines("patches", settings, config.extensions, out, None)["Flax"], made)
    theirs, (ours, _) = made["module"].apply(made["variables"], images), encoder.apply(variables, images)
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)
    initial = pretrained.read(config)
    assert "backbone 7 of 7 arrays" in initial.told[0]
    jax.tree.map(np.testing.assert_array_equal, initial.variables, made["variables"])


def test_settings_of_an_operation_are_checked_as_all_others(page):
    config = _config()
    with pytest.raises(TypeError):
        config.augment.invariance.posterize_levels = "many"
    config.augment.invariance.posterize_levels = float("nan")
    with pytest.raises(
        ConfigError, match=r"config\.augment\.invariance\.posterize_levels is nan; give a finite number"
    ):
        build.check(config, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, r"names 'my_own', which can't be imported \(ModuleNotFoundError: No module named 'my_own'\)"),
        ("1 / 0", r"names 'my_own', which can't be imported \(ZeroDivisionError: division by zero\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, tiny_config, text, told):
    monkeypatch.syspath_prepend(tmp_path)
    if text:
        (tmp_path / "my_own.py").write_text(text)
    config = tiny_config(extensions=("my_own",))
    with pytest.raises(ConfigError, match=rf"^config\.extensions {told}; it is a module .* or install it$"):
        build.build(config)


@pytest.mark.parametrize("name", ["out_of_reach", "raises_an_error", "clashes"])
def test_a_module_that_cannot_be_had_leaves_the_run_as_it_is(page, tmp_path, name):
    """Its config.json is whole: it is not taken for a damaged one."""
    (page / "raises_an_error.py").write_text("raise ValueError('not today')")
    (page / "clashes.py").write_text(
        "from care_jax import augment\naugment.OPERATIONS['clashes'] = augment.Operation({'hue': 0.0}, 0, None, None)"
    )
    (tmp_path / "config.json").write_text(json.dumps(plain(_config(extensions=(name,)))))
    before = (tmp_path / "config.json").read_bytes()
    for read in (read_config, recover_config):
        with pytest.raises(
            ConfigError, match=rf"^config\.extensions names '{name}', which can't be imported|^an operation has"
        ):
            read(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
    assert not list(tmp_path.glob("config.json.damaged*"))


def test_a_bundled_configuration_takes_a_module_by_the_flag(page):
    """Whose settings it does not have: they are what they are when nobody sets them."""
    config = digits.get_config()
    config.update(extensions=("my_lab",), data={"name": "stripes"})
    config.lock()
    build.check(config, sharding.make_mesh())
    assert config.augment.invariance.posterize_probability == 0.0 and config.is_locked


def test_a_run_begun_before_an_operation_had_a_setting_goes_on(page):
    written = plain(_config())
    del written["augment"]["equivariance"]["posterize_levels"]
    assert differences(from_plain(written).to_dict(), _config().to_dict()) == []


@pytest.mark.parametrize("off", [{"hue": 0.0}, {"posterize_levels": 4.0}])
def test_a_setting_of_a_name_that_there_is_is_refused(page, off):
    config = _config()
    augment.OPERATIONS["other"] = augment.OPERATIONS["posterize"]._replace(off=off)
    with pytest.raises(ConfigError, match=rf"operation.* has a setting '{next(iter(off))}', and so has .*: rename"):
        build.check(config, sharding.make_mesh())


def test_an_extension_that_was_edited_since_a_checkpoint_is_told_of(monkeypatch, tmp_path):
    file = tmp_path / "edited.py"
    file.write_text("A = 1\n")
    monkeypatch.setitem(sys.modules, "edited", SimpleNamespace(__file__=str(file)))
    config = {"extensions": ("edited",)}
    saved = extensions.versions(config)
    assert extensions.edited(config, saved) == extensions.edited(config, None) == []
    file.write_text("A = 2\n")
    (line,) = extensions.edited(config, saved)
    assert line.startswith("extension edited has been edited since the checkpoint was saved")


def test_extensions_are_names(tiny_config):
    config = tiny_config()
    with config.ignore_type():
        config.extensions = "my_own"
    with pytest.raises(ConfigError, match="extensions is 'my_own'; give a tuple"):
        validate(config, {})


def test_edited_copies_are_told_apart(page):
    config = _config()
    before = extensions.versions(config)
    assert list(before) == ["extension my_lab"]
    (page / "my_lab.py").write_text("pass")
    assert extensions.versions(config) != before


def test_processes_compare_their_copies(page, monkeypatch):
    def check(settings, workdir):
        seen.update(settings)
        raise ConfigError("enough")

    seen: dict[str, object] = {}
    monkeypatch.setattr("care_jax.devices.agreement.check_settings", check)
    with pytest.raises(ConfigError, match="enough"):
        run(_config(), page / "run")
    assert seen["train.num_steps"] == 2 and seen["extension my_lab"]


def test_a_run_remembers_where_its_method_and_its_settings_come_from(page):
    """As an evaluation reads it: from its folder alone, in a process that has not seen the module."""
    (page / "my_lab.py").write_text(
        "from care_jax import methods\nfrom care_jax.rules import SHARE, setting\n\n\n"
        "class Own(methods.SimCLR):\n    name = 'own'\n    kept: float = setting(0.5, SHARE, 'of something')\n\n\n"
        "methods.METHODS['own'] = Own\n"
    )
    importlib.import_module("my_lab")
    config = digits.get_config()
    config.update(extensions=("my_lab",), loss={"method": "own", "kept": 0.25})
    written = plain(config)
    del sys.modules["my_lab"], methods.METHODS["own"]
    again = from_plain(written)
    assert again.loss.kept == 0.25 and "own" in methods.METHODS
    build.check(again, sharding.make_mesh())
    assert differences(written, again.to_dict()) == []


def test_an_unknown_data_set_lists_ones_own(page):
    _config()
    with pytest.raises(DataError, match=r"there are .*, stripes$"):
        data.load("stripe")


@pytest.mark.slow
def test_the_clouds_of_the_page_train_and_their_labels_are_read(page):
    import my_clouds

    config = my_clouds.get_config()
    config.train.num_steps = 2
    experiment = build.build(config)
    assert experiment.dataset.description() == "192 training and 64 test clouds in 2 classes"
    outcome = train(experiment, page / "bars")
    assert outcome.finished
    numbers = knn.run(Evaluation(experiment).embedded(2, outcome.state.variables), config.evaluate)
    assert 0 <= numbers["knn_top1"] <= 100
