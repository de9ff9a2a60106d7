"""`--help`, and what is said of a flag that does not exist."""

import re

import pytest
from absl import flags
from ml_collections import config_flags

from care_jax import help
from care_jax.configs import base, digits
from care_jax.experiment.bundled import bundled_configs
from care_jax.experiment.config import leaves
from care_jax.experiment.explained import meanings
from care_jax.experiment.guesses import _SETTINGS, guess
from care_jax.methods import METHODS, TERMS

SETTINGS = sorted(leaves(base.get_config()))


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "The configuration.", flag_values=values)
    flags.DEFINE_bool("kept", True, "Whether.", flag_values=values)
    return values


def _shown(text: str) -> dict[str, str]:
    """Setting -> its value, as the page has them."""
    found, section = {}, ""
    for line in text[text.index("Settings, with") :].splitlines()[2:]:
        if re.fullmatch(r"[a-z.]+", line):
            section = f"{line}."
        elif match := re.match(r"  (\*?)(\w+)=(\S+)", line):
            found[section + match[2]] = match[1] + match[3]
        elif line.startswith("augment.invariance and"):
            section = "augment.invariance."
    return found


def test_it_shows_every_setting_with_its_default_and_every_name_there_is(command):
    values = command
    (module,) = values.flags_by_module_dict()
    text = help.text([module], values)
    assert max(map(len, text.splitlines())) <= 100
    defaults = leaves(base.get_config())
    shown = _shown(text)
    assert set(shown) == {name for name in defaults if not name.startswith("augment.equivariance.")}
    assert shown["train.batch_size"] == "256" and shown["data.root"] == "None"
    assert "images a step, over all devices" in text and "of moco, byol: share of the momentum encoder" in text
    assert "--[no]kept" in text
    for name in (*bundled_configs(), *METHODS, *TERMS):
        assert re.search(rf"^  {name}  +\S", text, re.MULTILINE), name
    assert "CARE on scikit-learn's 1,797 handwritten digits" in text


def test_it_shows_the_values_of_a_configuration_and_marks_what_is_not_the_default(command):
    shown = _shown(help.text(["x"], command, digits.get_config()))
    assert (shown["train.batch_size"], shown["train.log_every"]) == ("*128", "50")
    config = digits.get_config()
    config.augment.equivariance.hue = 0.25
    text = help.text(["x"], command, config, shown=lambda name: name.startswith("augment."))
    assert "  *hue=0.1 | 0.25" in text and "batch_size" not in text and "loss.method" not in text


def test_what_a_setting_means_is_taken_from_where_it_is_written():
    found = meanings()
    assert set(SETTINGS) <= set(found)
    assert found["augment.placement"].startswith(
        'Where views are made. "device": in the compiled step, images resident'
    )
    assert found["evaluate.probe.num_seeds"] == ""
    assert found["augment.invariance.hue"] == "x for a shift in U(-x, x), turns; at most 0.5."
    assert found["loss.off_diagonal_weight"].endswith("None: as its paper has it, 0.0051")


def test_other_programs_names_lead_to_settings_that_exist():
    assert set(_SETTINGS.values()) <= set(SETTINGS)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("lr", "3", "did you mean --config.optimizer.learning_rate=3?"),
        ("config.train.lr", "3", "did you mean --config.optimizer.learning_rate=3?"),
        ("batch-size", "256", "did you mean --config.train.batch_size=256?"),
        ("bs", None, "did you mean --config.train.batch_size?"),
        ("wd", "0", "did you mean --config.optimizer.weight_decay=0?"),
        ("temprature", "1", "did you mean --config.loss.temperature=1"),
        ("config.model.batch_size", "8", "did you mean --config.train.batch_size=8?"),
        ("momentum", "8", "did you mean --config.optimizer.momentum=8?"),
        ("wrkdir", "x", "did you mean --workdir=x?"),
        ("output-dir", "x", "did you mean --workdir=x?"),
        ("gpus", "2", "every device that JAX finds is used"),
        ("resume", None, "the same command with the same --workdir goes on"),
        ("confg.train.batch_sise", "2", "did you mean --config.train.batch_size=2"),
        ("qqqq", "2", ""),
        ("config.", "2", ""),
    ],
)
def test_what_was_probably_meant(name, value, meant):
    found = guess(name, value, SETTINGS, ["workdir", "config"])
    assert found.startswith(meant) and bool(found) == bool(meant)
