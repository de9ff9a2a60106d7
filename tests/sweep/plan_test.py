"""What a sweep sweeps has an effect, or it is refused; what has one in some of its runs alone is told of."""

from pathlib import Path

import ml_collections
import pytest

from care_jax.command_line import UsageError
from care_jax.configs import digits
from care_jax.experiment.settings import ConfigError
from care_jax.sweep import grid, plan


def _plan(*chosen, **changes):
    config = digits.get_config()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    settings = grid.parse(chosen)
    return plan.Plan(Path("w"), config, settings, grid.runs(config, settings, Path("w"), 1), frozenset())


def test_what_has_an_effect_is_not_told_of():
    assert plan.without_effect(_plan("optimizer.learning_rate=0.1,0.2"), ["train.batch_size"]) == []


@pytest.mark.parametrize(
    ("swept", "reason"),
    [
        ("train.epochs=10,20", "config.train.num_steps is 600"),
        ("optimizer.momentum=0,0.9", "config.optimizer.name is adam"),
    ],
)
def test_runs_that_would_be_the_same_are_refused(swept, reason):
    name = swept.partition("=")[0]
    with pytest.raises(UsageError, match=rf"^--set {name}: config.{name} is given, and has no effect: {reason}"):
        plan.without_effect(_plan(swept), [])


def test_what_has_an_effect_in_some_runs_is_told_of():
    planned = _plan("equivariance.weight=0,0.1", "equivariance.num_groups=4,8")
    (line,) = plan.without_effect(planned, [])
    assert line.startswith("in 2 of 4 combinations config.equivariance.num_groups is given, and has no effect: ")
    (line,) = plan.without_effect(_plan("train.batch_size=64,128"), ["train.epochs"])
    assert line.startswith("config.train.epochs is given, and has no effect: ")


@pytest.mark.parametrize("settings", [{}, {"seed": 0}, {"model": {"backbone": "resnet18"}}])
@pytest.mark.parametrize("chosen", [[], ["train.batch_size=8,16"]])
def test_an_incomplete_configuration_is_one_line(tmp_path, settings, chosen):
    with pytest.raises(ConfigError, match=r"config\.\w+ is missing; start from configs/base\.py"):
        plan.make(ml_collections.ConfigDict(settings), grid.parse(chosen), tmp_path, 2)


def test_settings_of_the_data_are_those_of_the_runs_data():
    with pytest.raises(ConfigError, match=r"^config.data.test_fraction is given, and digits has none"):
        plan.without_effect(_plan("data.test_fraction=0.1,0.3"), [])
    assert plan.without_effect(_plan("data.name=fashion", data__root="there"), ["data.root"]) == []
