"""The README's own method is what it says: one short file, one line, and the rest comes with it, its setting too."""

import re
import sys
import types
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from care_jax import methods
from care_jax.command_line import parse_flags
from care_jax.configs import base
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError, differences, from_plain, leaves, validate

# How ml_collections loads a file, as long as Python has that.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method:DeprecationWarning")

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def centered(monkeypatch):
    """The class of the README's text, registered."""
    (code,) = re.findall(r"```python\n(\"\"\"Centered.*?)```", README.read_text(), re.DOTALL)
    assert len(code.splitlines()) + 1 < 40
    module = types.ModuleType("centered")
    exec(compile(code, "README.md", "exec"), module.__dict__)
    monkeypatch.setitem(methods.METHODS, "centered", module.Centered)
    return module.Centered


@pytest.fixture
def parsed(monkeypatch):
    """`parsed(*arguments)`: the configuration, as the launcher parses it."""

    def parse(*arguments: str, config: str = "digits") -> ml_collections.ConfigDict:
        argv = ["care_jax", f"--config={config}", *arguments]
        monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks for overrides
        sys.modules.pop("config_config", None)  # the name that it loads every file by
        flag_values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", None, lock_config=True, flag_values=flag_values)
        parse_flags(argv, "--config=configs/digits.py", flag_values)
        return flag_values["config"].value

    return parse


def test_its_setting_is_one_like_any_other(centered, parsed, capsys):
    mesh = sharding.make_mesh(jax.devices()[:1])
    config = parsed("--config.loss.method=centered", "--config.loss.center_kept=0.95")
    build.check(config, mesh)
    assert build.make_objective(config, build.augment_spec(config, "invariance"), num_steps=1).method == centered(
        temperature=config.loss.temperature, center_kept=0.95
    )
    assert parsed("--config.loss.method=centered").loss.center_kept is None  # its own default then, which is not 0
    assert parsed("--config.loss.center_kept=0").loss.center_kept == 0.0
    for arguments, line in (
        (
            ["--config.loss.method=centered", "--config.loss.center_kept=1.5"],
            "center_kept is 1.5; it must be at least 0",
        ),
        (
            ["--config.loss.center_kept=0.5"],
            "center_kept is 0.5, but simclr has none.*or use config.loss.method=centered",
        ),
        (["--config.loss.method=centered", "--config.loss.momentum=0.5"], "momentum is 0.5, but centered has none"),
    ):
        with pytest.raises(ConfigError, match=line):
            build.check(parsed(*arguments), mesh)
    with pytest.raises(SystemExit):
        parsed("--config.loss.center_kept=much")
    assert "center_kept" in capsys.readouterr().err


def test_without_it_there_is_no_such_setting(parsed, capsys):
    with pytest.raises(SystemExit):
        parsed("--config.loss.center_kept=0.95")
    assert "'center_kept' is not a setting" in capsys.readouterr().err


def test_a_run_begun_before_it_was_written_goes_on(request):
    """Its config.json has no such setting, which then has no value."""
    before = base.get_config().to_dict()
    request.getfixturevalue("centered")
    now = base.get_config()
    assert leaves(now).keys() - leaves(before).keys() == {"loss.center_kept"}
    read = from_plain(before)
    validate(read, build.choices())
    assert differences(read.to_dict(), now.to_dict()) == []
    now.loss.center_kept = 0.5
    assert differences(read.to_dict(), now.to_dict()) == ["config.loss.center_kept: None -> 0.5"]


def test_a_configuration_file_may_bring_its_own(parsed, monkeypatch, tmp_path):
    """Without touching the package."""
    file = tmp_path / "own.py"
    file.write_text(
        "from care_jax import methods\nfrom care_jax.configs import base\n\n\n"
        "class Own(methods.SimCLR):\n    name = 'own'\n\n\n"
        "def get_config():\n    methods.METHODS['own'] = Own\n    config = base.get_config()\n"
        "    config.loss.method = 'own'\n    return config\n"
    )
    monkeypatch.setitem(methods.METHODS, "own", None)  # is taken out again
    config = parsed(config=str(file))
    validate(config, build.choices())
    assert methods.METHODS["own"].settings == methods.SimCLR.settings


@pytest.mark.slow
def test_the_readmes_method_trains(tiny_config, small_encoder, centered):
    config = tiny_config(loss__method="centered", loss__center_kept=0.95, augment__placement="host")
    build.check(config, sharding.make_mesh(jax.devices()[:1]))
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(encoder=small_encoder())
    views = np.random.default_rng(0).normal(size=(2, 32, 16, 16, 3)).astype(np.float32)
    state = build.make_state(experiment)
    np.testing.assert_array_equal(state.method_state["center"], np.zeros(8))
    after, metrics = jax.jit(build.make_step(experiment))(
        state, {"invariance_views": views, "equivariance_views": views}
    )
    assert np.isfinite(metrics["info_nce"]) and metrics["equivariance"] >= 0
    assert np.abs(after.method_state["center"]).max() > 0
