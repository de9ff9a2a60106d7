"""The configurations that come with the package, shown and copied."""

import jax
import pytest

from care_jax.command_line import UsageError
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.bundled import bundled_configs


@pytest.fixture(scope="module")
def configs(import_command):
    return import_command("care_jax.configs.__main__")


def test_each_shows_what_it_sets(configs, capsys, tmp_path):
    for name in bundled_configs():
        configs.show(name)
        assert bool(capsys.readouterr().out) == (name not in ("base", "cifar10"))
    configs.show("digits", tmp_path / "mine.py")
    assert "config.evaluate.knn_k: 200 -> " in capsys.readouterr().out
    assert (tmp_path / "mine.py").read_bytes() == bundled_configs()["digits"].read_bytes()


def test_settings_of_each_go_together(configs, tmp_path):
    mesh = sharding.make_mesh(jax.devices()[:1])
    for name, file in bundled_configs().items():
        config = configs._read(file, name)
        if config.data.name == "image_folder":
            config.data.root = str(tmp_path)
        build.check(config, mesh)


@pytest.mark.slow
def test_a_run_shows_its_settings(configs, saved_run, capsys):
    configs.show(str(saved_run.workdir))
    assert "config.data.name: 'cifar10' -> 'image_folder'" in capsys.readouterr().out


def test_what_is_none_is_one_line(configs, tmp_path):
    (tmp_path / "broken.py").write_text("def get_config(:")
    (tmp_path / "number.py").write_text("def get_config(): return 3")
    for name, message in (("none", "there are .*base, "), ("broken.py", "SyntaxError"), ("number.py", "no ConfigDict")):
        with pytest.raises(UsageError, match=message):
            configs.show(name if name == "none" else str(tmp_path / name))
    with pytest.raises(UsageError, match="is there already"):
        configs.show("digits", tmp_path / "number.py")
