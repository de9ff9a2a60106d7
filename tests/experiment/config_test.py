"""Values of every wrong type in every place of the configuration: accepted or refused in one line, nothing else."""

import fractions
import importlib
import json

import jax
import ml_collections
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import config_dict

from care_jax.devices import sharding
from care_jax.experiment import build, choice
from care_jax.experiment.config import ConfigError, differences, from_plain, leaves, read_config, validate
from care_jax.experiment.settings import STOOD_FOR_NONE, optional, rules

NAMES = ("base", "digits", "proteins")
BASES = {name: importlib.import_module(f"care_jax.configs.{name}").get_config for name in NAMES}
LEAVES = sorted(leaves(BASES["base"]()))
OF_CLOUDS = sorted(leaves(BASES["proteins"]()))
SECTIONS = sorted({name.rpartition(".")[0] for name in LEAVES} - {""})
MESH = sharding.make_mesh(jax.devices()[:1])


class Hostile:
    """Even to show it fails."""

    def __repr__(self):
        raise RuntimeError("no\nrepr")


# One of every kind for all places; what random values rarely hit.
ODD = [
    None,
    *(True, "", "32", "a\nb\u2028c", "\udcff", b"32", 0, -1, -(10**30), 2**31, 2**63, 10**400, 10**5000),
    *(0.0, -0.5, 0.5, 1e308, float("nan"), float("inf"), -float("inf"), 2j, fractions.Fraction(1, 3)),
    *((), (1,), (0.5, 0.5), (1, 2, 3), [0.1, 0.2, 0.3], ("a", None, 0.5), [[1], [2]], ((),), (float("nan"),) * 3),
    *((True, True, True), {1, 2}, {}, {"a": 1}, {"a": {"b": [None]}}, {"line\nbreak": 1}, range(3), object, object()),
    *(np.float32(0.5), np.float64(0.5), np.int64(3), np.bool_(True), np.str_("adam"), np.array(3), np.zeros((30, 30))),
    *(np.zeros(3), np.zeros(0), np.array(["a"]), Hostile(), lambda: 0, ...),
    ml_collections.ConfigDict(),
    ml_collections.ConfigDict({"a": 1}),
    config_dict.placeholder(int),
    config_dict.placeholder(int, required=True),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.complex_numbers(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.tuples(inner, inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=6,
)


def parent(config, name):
    """The section that a setting is in, and its own name."""
    section, _, key = name.rpartition(".")
    for part in filter(None, section.split(".")):
        config = config[part]
    return config, key


def put(config, name, value):
    """Whatever ml_collections itself would refuse, too: a configuration file may make its own tree."""
    section, key = parent(config, name)
    object.__getattribute__(section, "_fields")[key] = value  # behind its type checks


def outcome(config):
    """None where it is accepted, else the line; anything else is raised."""
    try:
        build.check(config, MESH)
    except ConfigError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message
        assert len(message) < 600, message
        assert "config" in message, message
        return message
    json.dumps(config.to_dict())  # as a run keeps it
    hash(build.augment_spec(choice.filled(config, choice.choose(config, MESH, 1000)), "invariance"))
    return None


def names(message, name):
    """Whether a message is about a setting or the section that it is in."""
    section, _, key = name.rpartition(".")
    # A spec tells its own ranges: "config.augment.invariance: AugmentSpec.hue must be ..."
    told = any(f"config.{section}: {spec}" in message for spec in ("AugmentSpec", "CloudSpec"))
    return f"config.{name}" in message or (told and key in message)


@pytest.mark.parametrize("base", BASES)
def test_as_written_it_is_accepted(base):
    assert outcome(BASES[base]()) is None


@pytest.mark.parametrize("base", BASES)
def test_as_a_run_keeps_it_it_is_accepted_too(base):
    """JSON has lists for tuples."""
    kept = from_plain(json.loads(json.dumps(BASES[base]().to_dict())))
    assert outcome(kept) is None
    assert not differences(BASES[base]().to_dict(), kept.to_dict())


@pytest.mark.parametrize("name", [*LEAVES, *sorted({*OF_CLOUDS} - {*LEAVES})])
def test_odd_values_in_every_leaf(name):
    refused = 0
    config = BASES["digits" if name in LEAVES else "proteins"]()
    for value in ODD:
        put(config, name, value)
        message = outcome(config)
        refused += message is not None
        if message is not None and not isinstance(value, config_dict.FieldReference):
            # A number in its range may still not fit to another setting, which the message then names first.
            assert names(message, name) or isinstance(value, (int, float)), (value, message)
    assert refused > len(ODD) / 2


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"equivariance.batch_size": 128}, ""),  # all of the batch
        ({"equivariance.batch_size": 129}, "config.equivariance.batch_size is 129, more than the batch of 128"),
        ({"equivariance.batch_size": 20}, "does not divide the 20 images of config.equivariance.batch_size"),
        ({"equivariance.num_groups": 5}, "does not divide the 128 images of config.train.batch_size"),
        ({"equivariance.num_groups": 128}, "groups of one image have no pairs"),
        ({"equivariance.num_groups": 128, "equivariance.weight": 0.0}, ""),
        ({"data.stored_size": 20, "augment.placement": "host"}, ""),
        ({"data.stored_size": 20, "augment.placement": "decode"}, "with augment.placement=decode leave it without"),
    ],
)
def test_settings_that_fit_together_or_do_not(changed, told):
    config = BASES["digits"]()
    for name, value in changed.items():
        put(config, name, value)
    message = outcome(config)
    assert told in message if told else message is None


@pytest.mark.parametrize("section", SECTIONS)
def test_something_else_in_a_sections_place(section):
    for value in ODD:
        config = BASES["digits"]()
        put(config, section, value)
        message = outcome(config)
        assert message is not None, value
        if not isinstance(value, config_dict.FieldReference):
            assert f"config.{section}" in message, (value, message)


@pytest.mark.parametrize("name", [*SECTIONS, *LEAVES])
def test_what_is_missing_is_named(name):
    config = BASES["base"]()
    section, key = parent(config, name)
    del section[key]
    message = outcome(config)
    assert message is not None
    assert f"config.{name}" in message
    assert "is missing" in message


def test_a_plain_dictionary_is_no_section():
    config = BASES["base"]()
    put(config, "train", config.train.to_dict())
    assert "config.train is a dict; make it a ConfigDict" in outcome(config)


@pytest.mark.parametrize("key", ["more", "line\nbreak", "", "\udcff", "train "])
def test_what_is_no_setting_is_named(key):
    for section in ("", *SECTIONS):
        config = BASES["base"]()
        put(config, f"{section}.{key}" if section else key, 3)
        message = outcome(config)
        assert "is not a setting" in message
        assert f"config.{section}" in message


@pytest.mark.parametrize("value", [v for v in ODD if not isinstance(v, ml_collections.ConfigDict)], ids=lambda v: "")
def test_something_else_for_the_configuration(value):
    with pytest.raises(ConfigError, match=r"^the configuration is"):
        validate(value, {})


# No example database: a run of the tests leaves nothing in the folder.
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_values_in_any_places(data):
    config = BASES[data.draw(st.sampled_from(sorted(BASES)))]()
    for name in data.draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=3, unique=True)):
        put(config, name, data.draw(VALUES))
    outcome(config)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(LEAVES), st.data())
def test_any_value_of_the_right_type(name, data):
    """Which goes through the ranges, and through how settings fit together."""
    config = BASES["digits"]()
    kind = rules()[name][0]
    number = st.floats() | st.integers()
    kinds = {
        int: st.integers(),
        float: number,
        bool: st.booleans(),
        str: st.text(),
    }
    values = st.lists(number, max_size=3) if isinstance(kind, tuple) else kinds[kind]
    put(config, name, data.draw(st.none() | values if name in optional() else values))
    outcome(config)


def test_numbers_that_no_device_could_count():
    beyond = [("train.batch_size", 2**31), ("seed", 2**32), ("evaluate.seed", 2**32)]
    beyond += [(name, 1e7) for name in LEAVES if "epochs" in name and "step" not in name and "probe" not in name]
    for name, value in beyond:
        config = BASES["digits"]()
        put(config, name, value)
        assert f"config.{name} is {value}" in outcome(config)
    config = BASES["digits"]()
    config.seed, config.train.log_every = 2**32 - 1, 2**31 - 1
    assert outcome(config) is None


@pytest.mark.parametrize("content", [b"", b"[1]", b"3", b"null", b"{", b"\xff", b'{"a.b": 1}', b"[" * 100_000])
def test_a_damaged_record_of_the_configuration(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match="must be the folder of a run") as caught:
        read_config(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def begun_before(config):
    """As version 0.1.0 of the first day wrote it: a value everywhere, 0 or nothing for the default."""
    plain = json.loads(json.dumps(config.to_dict()))
    for name, value in STOOD_FOR_NONE.items():
        section, key = name.split(".")
        plain[section][key] = value
    return plain


def test_a_run_begun_before_means_what_it_meant():
    config = BASES["digits"]()
    before = begun_before(config) | {"seed": 0}
    before["train"]["num_steps"] = 600
    assert differences(from_plain(before).to_dict(), config.to_dict()) == []
    before["loss"] |= {"method": "vicreg", "covariance_weight": 0.0, "variance_weight": 3.0}
    migrated = from_plain(before)
    assert migrated.loss.covariance_weight is None and migrated.loss.variance_weight == 3.0


def test_zeros_of_a_run_of_today_stay_zeros():
    config = BASES["digits"]()
    config.loss.method, config.loss.covariance_weight, config.train.num_steps = "vicreg", 0.0, 0
    again = from_plain(json.loads(json.dumps(config.to_dict())))
    assert (again.loss.covariance_weight, again.train.num_steps, again.loss.variance_weight) == (0.0, 0, None)
    again.data.root = "elsewhere"
    for section, key in (("data", "root"), ("loss", "variance_weight")):
        with pytest.raises(TypeError):  # what has no value keeps its type
            again[section][key] = (3,)


def test_absent_is_not_without_a_value():
    assert differences({"a": 1, "c": (1, 2)}, {"a": 1, "b": None, "c": [1, 2]}) == ["config.b: absent -> None"]
    assert differences({"a": 1, "b": 0}, {"a": 1}) == ["config.b: 0 -> absent"]
    assert differences({"a": {"x\x1b": 0}}, {"a": {"x\x1b": None}}) == [r"config.a.x\x1b: 0 -> None"]


@pytest.mark.parametrize(
    "name", [name for name, value in STOOD_FOR_NONE.items() if value == "" or name.endswith("size")]
)
def test_no_size_and_no_name_of_nothing(name):
    """What can't be zero or empty is refused, rather than taken for the default."""
    config = BASES["base"]()
    put(config, name, STOOD_FOR_NONE[name])
    message = outcome(config)
    assert f"config.{name} is {STOOD_FOR_NONE[name]!r}" in message and "leave it without a value (None)" in message


def test_runs_begun_before_monitored_knn(tiny_config):
    before = tiny_config().to_dict()
    del before["evaluate"]["monitor"]
    config = from_plain(json.loads(json.dumps(before)))
    assert config.evaluate.monitor == ("knn",) and differences(config.to_dict(), tiny_config().to_dict()) == []
    validate(config, {})
