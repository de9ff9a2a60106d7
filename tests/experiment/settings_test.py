"""The last values that a setting may hold, and the first that it may not."""

import pytest

from care_jax.configs import base
from care_jax.experiment.config import ConfigError, leaves, validate
from care_jax.experiment.settings import CHOSEN, STOOD_FOR_NONE, optional, rules

# Settings -> values in their range, and beyond it.
BOUNDS = {
    "seed evaluate.seed": ((0, 2**32 - 1), (-1, 2**32, 2**63)),
    "data.root data.class_file model.init_from": (("a", " a"), ("", " ")),
    "data.image_size": ((8,), (7,)),
    "data.std loss.temperature optimizer.learning_rate evaluate.knn_temperature": ((1e-9,), (0.0, -1.0)),
    "data.test_fraction": ((0.01, 0.99), (0.0, 1.0)),
    "model.head_size train.batch_size": ((2,), (1,)),
    "loss.momentum": ((0.0, 1.0), (-0.1, 1.1)),
    "optimizer.momentum evaluate.probe.momentum": ((0.0, 0.99), (-0.1, 1.0)),
    "equivariance.weight loss.off_diagonal_weight optimizer.weight_decay train.num_steps train.trace_steps": (
        (0,),
        (-1,),
    ),
    "loss.queue_size equivariance.num_groups train.keep_last train.log_every evaluate.knn_k": ((1,), (0,)),
    "evaluate.monitor_examples": ((1,), (0,)),
    "optimizer.step_factor evaluate.center_fraction": ((0.1, 1.0), (0.0, 1.1)),
    "train.epochs optimizer.step_epochs evaluate.probe.epochs": ((0.01, 1e6), (0.0, 2e6)),
    "train.evaluate_every_epochs train.checkpoint_every_epochs optimizer.warmup_epochs": ((0.0, 1e6), (-1.0, 2e6)),
}


@pytest.mark.parametrize("names", BOUNDS)
def test_the_ends_of_ranges(names):
    inside, beyond = BOUNDS[names]
    for name in names.split():
        holds = rules()[name][1].holds
        assert all(map(holds, inside)) and not any(map(holds, beyond)), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.batch_size", True),  # which Python has for 1
        ("data.mean", (False,) * 3),
        ("loss.temperature", float("inf")),
        ("optimizer.step_epochs", (1.0, float("inf"))),
        ("data.mean", (0.5,) * 4),
        ("augment.equivariance.crop_scale", (0.1, 0.5, 1.0)),
    ],
)
def test_what_is_of_another_kind_is_refused(name, value):
    config = base.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict({name: value})
    with pytest.raises(ConfigError, match=rf"^config\.{name} is .*; give "):
        validate(config, {})


def test_what_may_be_without_a_value_is_so_in_base():
    assert {name for name, value in leaves(base.get_config()).items() if value is None} == optional() - {*CHOSEN}


def test_nothing_stood_for_the_default_in_runs_begun_before():
    for name, value in STOOD_FOR_NONE.items():
        assert value == rules()[name][0](), name
