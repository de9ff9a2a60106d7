"""An evaluator is one table and one function: what runs when, and who reads the tables."""

import json
import math
from types import SimpleNamespace
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.errors import UserError
from care_jax.evaluate import evaluation, evaluators
from care_jax.evaluate.evaluation import Evaluation, monitors
from care_jax.evaluate.evaluators import EVALUATORS, find, measures
from care_jax.evaluate.measure import UNTRAINED, Evaluator, Measure, Missing
from care_jax.experiment.config import ConfigError


@pytest.fixture
def toys(monkeypatch, tiny_config):
    """`toys(**settings)`: an `Evaluation` with two evaluators of this test, and how often each of them has run."""
    runs = {"knn": 0, "spread": 0}

    def make(name, numbers):
        def run(embedded, settings):
            runs[name] += 1
            return numbers

        return Evaluator(lambda labellings: {key: Measure(f"{key} of these") for key in numbers}, run)

    broken = {"spread": 0.5, "count": 3, "nothing": None, "few": Missing("too few"), "broken": math.nan}
    table = {"knn": make("knn", {"knn_top1": 50.0}), "spread": make("spread", broken)}
    monkeypatch.setattr(evaluation, "EVALUATORS", table)
    monkeypatch.setattr(evaluators, "EVALUATORS", table)
    monkeypatch.setattr(evaluation, "EmbeddedDataSet", Embedded)

    def evaluation_of(**settings):
        experiment = SimpleNamespace(config=tiny_config(train__evaluate_every_epochs=5.0, **settings), num_steps=7)
        return Evaluation(experiment), runs

    return evaluation_of


class Embedded:
    """Remembers what was run, as the one that embeds does."""

    def __init__(self, experiment, make, variables):
        self._once = {}

    def once(self, function, settings):
        if function not in self._once:
            self._once[function] = function(self, settings)
        return self._once[function]


def test_each_monitor_has_its_period_and_all_run_after_the_last_step(toys):
    """Evaluations every 2 steps; `spread` at every second of them: a function of the step, resumed or not."""
    made, runs = toys(evaluate__monitor=("knn", "spread@10"))
    monitor = made.monitor(2)
    found = {step: set(monitor(step, {})) for step in (2, 4, 6, 7)}
    assert found == {2: {"knn_top1"}, 4: {"knn_top1", "spread"}, 6: {"knn_top1"}, 7: {"knn_top1", "spread"}}
    assert runs == {"knn": 4, "spread": 2}
    assert made.monitor(2)(4, {}) == {"knn_top1": 50.0, "spread": 0.5}  # no count, and nothing that is not finite


def test_the_end_takes_over_what_the_last_monitor_made(toys):
    made, runs = toys(evaluate__monitor=("spread",))
    made.monitor(2)(7, {})
    first = made.embedded(7, {})
    assert made.embedded(7, {}) is first is not made.embedded(8, {})
    assert runs == {"knn": 0, "spread": 1}
    made.monitor(2)(4, {})
    assert made._newest is None  # memory for the training


@pytest.mark.parametrize("number", ["seconds", "hue_probe_top1", "knn_top1", "two_words_knn_top1", "head_wahba_mean"])
def test_a_measure_is_found_by_its_name(number):
    assert find(number).meaning


def test_a_measure_is_of_the_labelling_that_its_name_says():
    assert [find(name).better for name in ("linear_probe_top1", "hue_probe_top1")] == ["higher", ""]


def test_what_there_is_not_is_not_found():
    with pytest.raises(KeyError):
        find("hue_probe_top5")


def test_every_name_stands_in_one_table():
    names = [name for evaluator in EVALUATORS.values() for name in evaluator.measures(("class", "hue"))]
    assert len(names) == len(set(names)) and not set(names) & set(evaluators.OF_THE_RUN)
    assert all(measure.better in ("higher", "lower", "") for measure in measures(("class",)).values())


def test_a_new_evaluator_is_in_every_table_at_once(toys):
    toys()
    assert find("spread").meaning == "spread of these" and "spread" in measures(())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"evaluate__monitor": ("knm",)}, "names 'knm'; there are knn, linear_probe, "),
        ({"evaluate__monitor": ("knn", "equivariance@7")}, "names 'equivariance@7'; its epochs must be a multiple of"),
        ({"evaluate__monitor": ("knn@x",)}, "names 'knn@x'; its epochs"),
        ({"evaluate__monitor": ("knn@0",)}, "names 'knn@0'; its epochs"),
        ({"evaluate__monitor": ("knn@5",), "train__evaluate_every_epochs": 0.0}, "which is 0"),
        ({"evaluate__monitor": ("finetune",)}, "which is off; set config.evaluate.finetune.enabled"),
        ({"evaluate__monitor": ("label_fractions",)}, "which is off; set config.evaluate.label_fractions"),
        ({"evaluate__monitor": ("alignment",), "loss__method": "alignment"}, "logs its loss under that name"),
    ],
)
def test_mistakes_in_the_monitors_are_one_line(tiny_config, settings, told):
    with pytest.raises(ConfigError, match=r"config\.evaluate\.monitor names") as caught:
        monitors(tiny_config(**{"train__evaluate_every_epochs": 5.0} | settings))
    assert told in str(caught.value)


def test_periods_are_multiples_of_decimal_numbers_too(tiny_config):
    config = tiny_config(train__evaluate_every_epochs=0.1, evaluate__monitor=("knn", "linear_probe@0.3"))
    assert monitors(config) == {"knn": 1, "linear_probe": 3}
    config.evaluate.monitor = ("knn,linear_probe@0.3",)  # as the command line gives it
    assert monitors(config) == {"knn": 1, "linear_probe": 3}
    config.evaluate.monitor = ()
    assert monitors(config) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.asarray(0.5, np.float16), 0.5),
        (jnp.float32(0.5), 0.5),
        (jnp.bfloat16(0.5), 0.5),
        (np.int64(3), 3),
        (jnp.int32(3), 3),
        (3, 3),
        (np.float32(np.nan), None),
        (np.float32(np.inf), None),
    ],
)
def test_scalars_of_numpy_and_jax_are_numbers(toys, given, expected):
    """Drawn as a curve where they are floats, and written as JSON."""
    made, _ = toys(evaluate__monitor=("knn",))
    evaluation.EVALUATORS["knn"] = Evaluator(lambda labellings: {}, lambda embedded, settings: {"mine": given})
    curve = {"mine": expected} if isinstance(expected, float) else {}
    assert json.dumps(made.monitor(2)(4, {})) == json.dumps(curve)
    test = SimpleNamespace(rows=[0], features=SimpleNamespace(finite=lambda: True), embeddings=np.ones((1, 2)))
    experiment = SimpleNamespace(
        config=made.experiment.config, dataset=SimpleNamespace(test=SimpleNamespace(noun="images"))
    )
    embedded = Mock(once=lambda function, settings: function(None, settings), part=lambda part: test, notes=())
    embedded.experiment = experiment
    numbers = evaluation.measure(embedded, ("knn",)).numbers
    assert json.dumps(numbers) == json.dumps({"mine": expected, "test_examples": 1})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.ones(2), r"array\(\[1\., 1\.\]\), a ndarray of shape \[2\]"),
        ("0.5", "'0.5', a str"),
        (np.complex64(1), "a complex64"),
    ],
)
def test_what_is_no_number_names_its_evaluator(given, told):
    def run(embedded, settings):
        return {"mine": given}

    embedded = Mock(once=lambda function, settings: function(embedded, settings))
    where = r"^the evaluator tests\.evaluate\.evaluators_test\.test_what_is.*\.run gives mine = .*"
    with pytest.raises(UserError, match=where + told + "; make it a float") as error:
        Evaluator(lambda labellings: {}, run).numbers(embedded, None)
    assert "\n" not in str(error.value)


def test_embeddings_that_nothing_trains_are_not_told_of():
    def run(embedded, settings):
        return {"wahba_mean": 0.5, "features_radius_r2": 0.4, "hue_follow": None}

    def numbers(projects, **of):
        embedded = Mock(once=lambda function, settings: function(embedded, settings))
        embedded.experiment.objective.projects = projects
        return Evaluator(lambda labellings: {}, run, **of).numbers(embedded, None)

    assert numbers(True, of_embeddings=True) == numbers(False) == run(None, None)
    found = numbers(False, of_embeddings=True)
    assert found == {"wahba_mean": UNTRAINED, "features_radius_r2": 0.4, "hue_follow": None}
    told = {name for name, one in evaluators.EVALUATORS.items() if one.of_embeddings}
    assert told == {"equivariance", "motion", "parameters", "alignment", "clouds"}
