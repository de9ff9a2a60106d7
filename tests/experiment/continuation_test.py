"""What a run may go on with: nothing that would give it other numbers, but for more steps."""

import json
from pathlib import Path

import pytest

from care_jax.experiment.config import ConfigError, from_plain
from care_jax.experiment.continuation import changes, changes_beyond_evaluation, check_goes_on, rounded_otherwise

WORKDIR = Path("runs/mine")


@pytest.mark.parametrize(
    ("begun", "now"),
    [
        ({}, {"train__num_steps": 12}),
        ({}, {"train__num_steps": 12, "train__log_every": 1, "data__root": "moved"}),
        ({}, {"train__num_steps": 12, "train__keep_last": 9, "augment__num_threads": 3}),
        ({}, {"evaluate__monitor": ("knn", "equivariance"), "evaluate__batch_size": 7, "data__download": True}),
        ({}, {"model__remat": True, "train__steps_per_call": 3, "train__checkpoint_every_epochs": 0.5}),
        ({}, {"data__class_file": "moved.txt", "train__num_steps": 12}),
        ({"train__num_steps": None}, {"train__num_steps": None, "train__epochs": 500.0}),
        ({"optimizer__schedule": "step"}, {"optimizer__schedule": "step", "train__num_steps": 12}),
        ({"loss__method": "moco"}, {"loss__method": "moco", "train__num_steps": 12}),
    ],
)
def test_a_run_can_be_made_longer(tiny_config, begun, now):
    check_goes_on(tiny_config(**begun), tiny_config(**now), WORKDIR)


@pytest.mark.parametrize(
    ("always", "now", "line"),
    [
        ({}, {"train__num_steps": 3}, r"with other settings \(config.train.num_steps: 6 -> 3\)"),
        ({}, {"train__num_steps": None}, r"with other settings \(config.train.num_steps: 6 -> None\)"),
        ({"train__num_steps": None}, {"train__num_steps": 12}, r"with other settings \(.*num_steps: None -> 12\)"),
        ({}, {"train__num_steps": 12, "train__epochs": 0.5}, r"with other settings \(config.train.epochs: .* -> 0.5\)"),
        (
            {},
            {"train__num_steps": 12, "train__epochs": 900.0},
            r"with other settings \(config.train.epochs: .* -> 900.0; config.train.num_steps: 6 -> 12\)",
        ),
        ({}, {"train__num_steps": 12, "seed": 1}, r"with other settings \(config.seed: 0 -> 1\)"),
        ({}, {"data__image_size": 24}, r"with other settings \(config.data.image_size: 16 -> 24\)"),
        ({}, {"evaluate__knn_k": 3}, r"with other settings \(config.evaluate.knn_k: 5 -> 3\)"),
        (
            {"optimizer__schedule": "cosine"},
            {"train__num_steps": 12},
            r"can't be made longer \(config.train.num_steps: 6 -> 12\): its learning rate .*cosine.* falls to 0",
        ),
        ({"loss__method": "byol"}, {"train__num_steps": 12}, r"can't be made longer .*: byol's momentum rises to 1"),
        (
            {"optimizer__schedule": "cosine"},
            {"train__num_steps": 12, "seed": 1},
            r"with other settings \(config.seed: 0 -> 1\)",
        ),
    ],
)
def test_what_would_give_other_numbers_is_refused(tiny_config, always, now, line):
    with pytest.raises(ConfigError, match=rf"^runs/mine holds a run (that )?{line}.* another --workdir$"):
        check_goes_on(tiny_config(**always), tiny_config(**(always | now)), WORKDIR)


def test_what_moves_the_last_digits_is_told(tiny_config):
    others = tiny_config(model__remat=True, train__steps_per_call=3, train__checkpoint_every_epochs=0.5)
    told = rounded_otherwise(tiny_config(), others)
    assert [line.partition(":")[0] for line in told] == ["config.model.remat", "config.train.steps_per_call"]
    assert changes(tiny_config(), tiny_config(evaluate__batch_size=7)) == []
    assert changes(tiny_config(), others)  # of a table's row it is another run


def test_an_evaluation_may_change_what_is_its_own(tiny_config):
    changed = tiny_config(evaluate__knn_k=3, evaluate__probe__epochs=1, data__root="moved", augment__num_threads=3)
    assert changes_beyond_evaluation(tiny_config(), changed) == []
    changed.data.image_size, changed.train.num_steps = 8, 12
    refused = ["config.data.image_size: 16 -> 8", "config.train.num_steps: 6 -> 12"]
    assert changes_beyond_evaluation(tiny_config(), changed) == refused


@pytest.mark.parametrize("term", ["essl", "augself"])
def test_a_run_whose_heads_were_as_wide_as_the_projection_head(tiny_config, term):
    """Begun before `equivariance.hidden_size`: it goes on with that width given, and not without."""
    config = tiny_config(equivariance__term=term, model__head_hidden_sizes=(24, 12))
    before = json.loads(json.dumps(config.to_dict()))
    del before["equivariance"]["hidden_size"]
    begun = from_plain(before)
    assert begun.equivariance.hidden_size == 24
    config.equivariance.hidden_size = 24
    check_goes_on(begun, config, WORKDIR)
    config.equivariance.hidden_size = None
    with pytest.raises(ConfigError, match=r"with other settings \(config.equivariance.hidden_size: 24 -> None\)"):
        check_goes_on(begun, config, WORKDIR)
    for section, name, value in (("equivariance", "term", "care"), ("equivariance", "weight", 0.0)):
        others = before | {section: before[section] | {name: value}}
        assert from_plain(others).equivariance.hidden_size is None  # of which nothing had that width
