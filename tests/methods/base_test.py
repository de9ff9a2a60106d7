"""The objective is the base loss plus lambda times the equivariance loss; methods declare their settings as fields."""

import dataclasses
import re
from pathlib import Path
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import losses
from care_jax.experiment.settings import rules
from care_jax.methods import BYOL, METHODS, TERMS, Care, Method, MoCo, Objective, SimCLR, Term, settings_of
from care_jax.methods.joined import joined
from care_jax.models import ProjectionHead
from care_jax.rules import ANY, POSITIVE, at_least, setting


def _total(objective, outputs):
    return jax.jit(lambda outputs: objective(outputs, {}))(outputs)


def test_objective_weighs_its_terms():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 8, 3)).astype(np.float32)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    objective = Objective(SimCLR(temperature=0.5), Care(num_groups=2), weight=0.25)
    total, terms = _total(objective, {"embeddings": z[:2], "equivariance_outputs": z[2:]})
    info_nce = jax.jit(losses.info_nce)(z[0], z[1], temperature=0.5)
    equivariance = jax.jit(losses.equivariance_loss, static_argnames="num_groups")(z[2], z[3], num_groups=2)
    np.testing.assert_allclose(total, info_nce + 0.25 * equivariance, rtol=1e-6)
    assert set(terms) == {"loss", "info_nce", "equivariance"}
    plain, terms = _total(Objective(objective.method), {"embeddings": z[:2]})
    np.testing.assert_allclose(plain, info_nce, rtol=1e-6)
    assert set(terms) == {"loss", "info_nce"}


@pytest.mark.parametrize(("parts", "reserved"), [(({"a": 1}, {"b": 2, "a": 3}), ()), (({"a": 1},), ("a",))])
def test_of_two_names_that_are_the_same_none_is_taken(parts, reserved):
    with pytest.raises(ValueError, match="two terms are called 'a': rename that of the method or of the term"):
        joined("term", *parts, reserved=reserved)


def test_heads_terms_and_outputs_of_one_name_are_refused():
    byol = BYOL(predictor=ProjectionHead((8,), 8), num_steps=20, momentum=0.9)
    term = Mock(heads={"predictor": None}, num_views=2)
    with pytest.raises(ValueError, match="two heads are called 'predictor'"):
        _ = Objective(byol, term, 0.5).heads
    method = Mock(loss=lambda *_: {"step": jnp.float32(1.0)})
    with pytest.raises(ValueError, match="two terms are called 'step'"):
        Objective(method)({}, {})
    term.loss = lambda _: {"info_nce": 1.0}
    with pytest.raises(ValueError, match="two terms are called 'info_nce'"):
        Objective(Mock(loss=lambda *_: {"info_nce": jnp.float32(1.0)}), term, 0.5)({}, {})


def _table():
    """The rows of docs/methods.md's table of settings; methods that share a setting share its row."""
    of: dict = {}
    for section, registry in (("loss", METHODS), ("equivariance", TERMS)):
        for name, cls in registry.items():
            for setting_name, one in cls.settings.items():
                of.setdefault((f"{section}.{setting_name}", one), []).append(f"`{name}`")
    for (name, one), owners in of.items():
        may_be = one.rule.text.removeprefix("it must be ").removeprefix("choose ")
        yield f"| `{name}` | {', '.join(owners)} | {one.default} | {may_be} | {one.meaning} |"


def test_the_docs_list_every_setting():
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    rows = re.search(r"\| setting \|.*\n\|-.*\n((?:\|.*\n)+)", text)
    assert rows and rows[1].splitlines() == list(_table())


def test_fields_and_settings():
    class Derived(SimCLR):
        name = "derived"
        piece: tuple[int, ...] = ()
        size: int = setting(3, at_least(1), "whole")

    assert list(Derived.settings) == ["temperature", "size"] and list(SimCLR.settings) == ["temperature"]
    assert Derived.settings["size"].kind is int and Derived.settings["temperature"] == SimCLR.settings["temperature"]
    assert (Derived().size, Derived(size=4, piece=(1,)).size, Derived().temperature) == (3, 4, 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Derived().size = 5
    with pytest.raises(TypeError, match="unexpected keyword argument 'sizes'"):
        Derived(sizes=3)
    with pytest.raises(TypeError, match=r"Listed.sizes is a list.*make it a bool, int, float or str"):

        class Listed(Method):
            sizes: list[int] = setting([], ANY, "several")


def test_a_class_may_have_another_default_of_a_setting_that_is_unset():
    class Annotated(MoCo):
        momentum: float = 0.5

    class Bare(MoCo):
        momentum = 0.5

    class Further(Annotated):
        queue_size: int = 8

    for cls in (Annotated, Bare, Further):
        assert cls.settings["momentum"] == MoCo.settings["momentum"]._replace(default=0.5)
        assert cls().momentum == cls.momentum == 0.5 and cls.settings.keys() == MoCo.settings.keys()
    assert (Further().queue_size, Further(momentum=0.25).momentum) == (8, 0.25)
    assert MoCo.settings["momentum"].default == MoCo().momentum != 0.5
    with pytest.raises(TypeError, match=r"^Held\.momentum is a Field; give the setting a plain value$"):

        class Held(MoCo):
            momentum: float = dataclasses.field(default=0.5)


def test_a_default_that_the_configuration_states_is_not_changed_in_silence():
    """`make` is given what the configuration holds: the value of the class would never be used."""
    told = r" = 0\.05 would change nothing: every configuration states temperature, which is 0\.5 until it is given a"
    with pytest.raises(TypeError, match=r"^Annotated\.temperature" + told):

        class Annotated(SimCLR):
            temperature: float = 0.05

    with pytest.raises(TypeError, match=r"^Bare\.temperature" + told):

        class Bare(SimCLR):
            temperature = 0.05

    with pytest.raises(TypeError, match=r"^Feature\.on = 'features' would change nothing"):

        class Feature(Care):
            on: str = "features"


@pytest.mark.parametrize(
    "other",
    [
        lambda: setting(
            0.3, POSITIVE, "another default that the configuration would hold", stated=True, ignorable=True
        ),
        lambda: setting(0.5, POSITIVE, "without a value at first"),
        lambda: setting(0.5, at_least(0), "another rule", stated=True, ignorable=True),
    ],
)
def test_one_name_is_one_setting(other):
    class Hot(Method):
        name = "hot"
        temperature: float = other()

    with pytest.raises(ValueError, match="hot and simclr declare the setting 'temperature' differently"):
        settings_of({"simclr": SimCLR, "hot": Hot})


def test_a_setting_that_is_unset_may_have_other_defaults():
    assert MoCo.settings["momentum"].default != BYOL.settings["momentum"].default
    assert set(settings_of({"moco": MoCo, "byol": BYOL})) == {"temperature", "momentum", "queue_size"}


def test_a_name_that_the_section_has_already_is_refused(monkeypatch):
    class Weighty(Term):
        name = "weighty"
        weight: float = setting(1.0, POSITIVE, "taken")

    monkeypatch.setitem(TERMS, "weighty", Weighty)
    with pytest.raises(ValueError, match=r"'equivariance.weight', which is a setting already"):
        rules()
