"""From settings to an objective, and one line for those that do not go together."""

import jax
import numpy as np
import pytest

from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError
from care_jax.experiment.inputs import augment_spec
from care_jax.experiment.objective import make_objective
from care_jax.methods import TERMS


def _make(config):
    return make_objective(config, build.augment_spec(config, "invariance"), num_steps=10)


def test_one_line_chooses_the_base_and_one_the_term(tiny_config):
    objective = _make(tiny_config(loss__method="byol", equivariance__term="equimod", equivariance__weight=0.7))
    assert (objective.method.name, objective.term.name, objective.weight) == ("byol", "equimod", 0.7)
    assert set(objective.heads) == {"predictor", "equivariance_head", "equivariance_predictor"}
    assert objective.term.temperature == 0.2
    asked = _make(tiny_config(equivariance__term="equimod", equivariance__temperature=0.3))
    assert asked.term.temperature == 0.3 and asked.method.temperature == 0.5
    plain = _make(tiny_config(loss__method="byol", equivariance__weight=0.0))
    assert plain.term is None and set(plain.heads) == {"predictor"}


@pytest.mark.parametrize(("term", "published"), [("essl", 2048), ("augself", 512)])
def test_heads_are_as_wide_as_in_the_paper_or_as_asked_for(tiny_config, term, published):
    for asked, width in ((None, published), (24, 24)):
        made = _make(tiny_config(equivariance__term=term, equivariance__hidden_size=asked)).term
        assert all(head.hidden_sizes == (width, width) for head in made.heads.values())


def test_settings_reach_their_method(tiny_config):
    """A queue of the size asked for, and the method's own where it has no value."""
    variables = {"params": {"backbone": np.zeros(1)}, "batch_stats": {}}
    for asked, size in ((24, 24), (None, 65536)):
        method = _make(tiny_config(loss__method="moco", loss__queue_size=asked)).method
        state = jax.eval_shape(lambda: method.init(jax.random.key(0), variables, 4))  # noqa: B023
        assert state["queue"].shape == (size, 4)
    barlow = {"loss__method": "barlow_twins"}
    outputs = {"projections": np.random.default_rng(0).normal(size=(2, 8, 4))}
    own, asked = (
        _make(tiny_config(**barlow, **other)).method.loss(outputs, {})["redundancy"]
        for other in ({}, {"loss__off_diagonal_weight": 0.5})
    )
    assert asked > own


@pytest.mark.parametrize(
    ("method", "setting"),
    [("moco", "momentum"), ("byol", "momentum"), ("barlow_twins", "off_diagonal_weight")]
    + [("vicreg", f"{name}_weight") for name in ("invariance", "variance", "covariance")],
)
def test_zero_is_zero(tiny_config, method, setting):
    """Not the method's own default."""
    made = _make(tiny_config(**{"loss__method": method, f"loss__{setting}": 0.0})).method
    assert getattr(made, setting) == 0.0
    made = _make(tiny_config(loss__method=method)).method
    assert getattr(made, setting) == made.settings[setting].default != 0.0


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            {"loss__method": "byol", "loss__queue_size": 64},
            "loss.queue_size is 64, but byol has none.*loss.method=moco",
        ),
        (
            {"loss__momentum": 0.9},
            "loss.momentum is 0.9, but simclr has none; leave it .*None.*, or use .*=moco or byol",
        ),
        ({"loss__momentum": 0.0}, "loss.momentum is 0.0, but simclr has none"),
        ({"loss__method": "moco", "loss__variance_weight": 1.0}, "loss.variance_weight is 1.0, but moco .*=vicreg"),
        ({"loss__method": "none", "equivariance__weight": 0.0}, "nothing to minimise; raise the weight"),
        (
            {"equivariance__term": "essl", "augment__invariance__rotation_degrees": 10.0},
            "rotation_degrees is 10, but essl tells how far an image was turned; make it 0",
        ),
        (
            {"equivariance__group": "symplectic", "model__head_size": 7},
            "'symplectic', whose form needs an even dimension, but config.model.head_size is 7; make it even",
        ),
        (
            {"equivariance__term": "augself", "equivariance__on": "head"},
            "equivariance.on is 'head', but augself has none; leave it 'projection', or use .*term=care",
        ),
        (
            {"equivariance__term": "equimod", "equivariance__hidden_size": 16},
            "hidden_size is 16, but equimod has none; leave it .*None.*, or use .*term=essl or augself",
        ),
        ({"equivariance__term": "equimod", "equivariance__group": "lorentz"}, "equivariance.group is 'lorentz', but"),
        (
            {"equivariance__term": "equimod", "equivariance__batch_size": 16},
            "equivariance.batch_size is 16, but equimod has no",
        ),
        (
            {"equivariance__term": "augself", "augment__placement": "decode"},
            "needs the drawn augmentations .* use config.augment.placement=device, not 'decode'",
        ),
        ({"equivariance__term": "equimod", "augment__placement": "host"}, "placement=device, not 'host'"),
        ({"loss__method": "mocov3"}, "loss.method is 'mocov3'; choose one of simclr, moco"),
        ({"equivariance__term": "rotation"}, "equivariance.term is 'rotation'; choose one of care"),
        ({"equivariance__on": "backbone"}, "equivariance.on is 'backbone'; choose one of projection"),
        ({"equivariance__group": "euclidean"}, "equivariance.group is 'euclidean'; choose one of orthogonal"),
        (
            {"model__backbone": "vit_small", "data__image_size": 30},
            "image_size is 30, which the 16 x 16 patches .* use 16",
        ),
        (
            {
                "model__backbone": "vit_small",
                "model__stem": "cifar",
                "data__image_size": 12,
                "equivariance__term": "essl",
            },
            "'essl', whose views of 6 pixels the 4 x 4 patches .* multiple of 8",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(tiny_config, overrides, line):
    with pytest.raises(ConfigError, match=line) as error:
        build.check(tiny_config(**overrides), sharding.make_mesh(jax.devices()[:1]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_goes_with_the_base_that_has_a_head(tiny_config, term):
    """Their heads have names of their own."""
    config = tiny_config(loss__method="byol", equivariance__term=term)
    objective = make_objective(config, augment_spec(config, "invariance"), num_steps=1)
    assert {"predictor", *objective.term.heads} == set(objective.heads)


def test_what_all_files_set_is_no_mistake(tiny_config):
    """A data set's file has a temperature for whatever method."""
    assert _make(tiny_config(loss__method="vicreg", loss__temperature=0.1)).method.name == "vicreg"


def test_a_term_that_is_off_is_not_asked(tiny_config):
    _make(tiny_config(equivariance__weight=0.0, equivariance__term="essl", augment__placement="host"))


def test_symplectic_asks_for_the_dimension_it_acts_on(tiny_config):
    _make(tiny_config(equivariance__group="symplectic", equivariance__on="features", model__head_size=7))
