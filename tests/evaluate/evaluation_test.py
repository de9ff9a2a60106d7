"""Too few images, embeddings that are broken or all the same: null and a line, no traceback and no wrong number."""

import json
import warnings
from unittest.mock import Mock

import jax
import numpy as np
import pytest

from care_jax.data import DataError, DataSet, Examples
from care_jax.devices import sharding
from care_jax.evaluate import (
    clouds,
    embed,
    equivariance_error,
    finetune,
    label_fractions,
    linear_probe,
    motion,
    parameters,
    results,
    sections,
    term_space,
)
from care_jax.evaluate.embedded import make_embedder
from care_jax.evaluate.evaluation import Evaluation
from care_jax.evaluate.evaluators import EVALUATORS, measures
from care_jax.evaluate.measure import SEVERAL, Evaluator, Measure, Missing
from care_jax.experiment import build

OF_SEVERAL = {
    "wahba_mean",
    "wahba_worst",
    "wahba_orthogonal_mean",
    "wahba_orthogonal_worst",
    "relative_equivariance_mean",
    "relative_equivariance_median",
    "uniformity",
}
HELD_OUT = {*motion.measures(()), *parameters.measures(())}


def of_class(accuracy):
    """What a probe of one seed finds."""
    return {"class": np.asarray([accuracy])}


@pytest.fixture(scope="module")
def make(tiny_config, small_encoder):
    """An experiment on a few of the digits, one training image a class unless said, and its variables."""

    def experiment(num_test, num_train=10, **overrides):
        config = tiny_config(evaluate__num_augmentations=2, evaluate__batch_size=16, **overrides)
        config.augment.placement = "device"
        made = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(encoder=small_encoder())
        digits = made.dataset
        train = Examples(digits.train.images[:num_train], {"class": np.arange(num_train, dtype=np.int32) % 10})
        test = Examples(digits.test.images[:num_test], {"class": np.arange(num_test, dtype=np.int32) % 10})
        few = DataSet("few digits", train, train, test, {"class": 10})
        return made._replace(dataset=few), jax.device_get(build.make_state(made)).variables

    return experiment


@pytest.mark.slow
def test_one_test_image_leaves_null_and_one_line(make, tmp_path, capsys):
    experiment, variables = make(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of numpy: a mean of nothing
        warnings.simplefilter("error", UserWarning)  # of matplotlib: a picture without limits
        results.write(Evaluation(experiment), tmp_path, variables, step=1, seconds=1.0, device="1 x cpu")
    text = (tmp_path / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    missing = {name for name, value in summary.items() if value is None}
    assert (
        missing == OF_SEVERAL | HELD_OUT | {"step_images_per_second"}
        and summary["images_per_second"] == experiment.config.train.batch_size
    )
    named = measures(experiment.dataset.num_classes)
    asked_for = finetune.measures(("class",)) | label_fractions.measures(("class",))
    others = {*term_space.measures(()), *clouds.measures(())}  # of other terms, and of clouds of points
    space = {*others, *asked_for} - summary.keys()  # and what is off
    assert summary.keys() == named.keys() - space
    assert summary["test_examples"] == 1 and summary["relative_equivariance_examples"] == 0
    assert summary["displacement_mean"] > 0 and summary["knn_top1"] in (0, 100)
    assert (tmp_path / "report.html").read_text().endswith("</html>\n")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("care_jax: could not be measured, null in summary.json: wahba_mean, wahba_worst, ")
    assert line.endswith(", uniformity: needs at least 2 test images, there is 1")


@pytest.mark.slow
def test_two_test_images_and_one_training_image_a_class_are_enough(make, monkeypatch):
    """Whatever the embeddings are: ordinary, all the same, or no numbers."""
    # The probe takes long to compile; its own answer to NaN is linear_probe_test's.
    monkeypatch.setattr(
        "care_jax.evaluate.linear_probe.linear_probe",
        lambda *sets, **_: {"class": np.asarray([np.mean(sets[0].numpy())])},
    )
    experiment, variables = make(2, evaluate__knn_k=200, evaluate__probe__num_seeds=1)
    evaluation = Evaluation(experiment)

    def evaluated(step, variables):
        measured = evaluation.measure(step, variables)
        return measured, {name for name, value in measured.numbers.items() if value is None}

    nothing = {"linear_probe_top1_spread"} | HELD_OUT  # of one seed; of halves of two images
    measured, missing = evaluated(1, variables)
    assert missing == nothing and measured.numbers["relative_equivariance_examples"] == 2
    assert measured.notes == (
        "knn_top1: all 10 training images vote; evaluate.knn_k is 200",
        "could not be measured, null in summary.json: linear_probe_top1_spread: "
        "needs at least 2 seeds, evaluate.probe.num_seeds is 1",
        "could not be measured, null in summary.json: rotation_share_explained, rotation_share_explained_low, "
        "rotation_share_explained_high, rotation_share_permuted, rotation_share_centred, orthogonal_share_explained, "
        "linear_share_explained, linear_share_permuted, relative_equivariance_permuted, composition_error, "
        "follow_mean_reciprocal_rank, follow_hit_at_1, parameters_explained_linear, "
        "parameters_explained_mlp: needs at least 4 test images, there are 2",
    )

    measured, missing = evaluated(2, jax.tree.map(np.zeros_like, variables))
    assert missing == nothing
    assert all(measured.numbers[name] == 0 for name in ("displacement_mean", *OF_SEVERAL - {"uniformity"}))
    assert measured.numbers["uniformity"] == pytest.approx(0, abs=1e-6)  # cosines of zero rows

    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), variables)
    measured, missing = evaluated(3, broken)
    assert OF_SEVERAL | {"knn_top1", "linear_probe_top1", "displacement_mean", "alignment"} <= missing
    assert measured.notes[1].endswith("not finite; the features or embeddings of 2 of 2 test images are not")
    assert evaluation.monitor(1)(3, broken) == {}
    embedded = evaluation.embedded(3, broken)
    shown = sections.of_run(embedded, [], {})
    without = ("Is an augmentation a rotation?", "How far do the rotations turn?", "Test images in the plane")
    assert not any(shown[heading].figures for heading in without) and "Which classes are taken for which" not in shown


@pytest.mark.slow
def test_a_constant_encoder_has_no_share_of_motion(make):
    experiment, variables = make(5)
    embedded = Evaluation(experiment).embedded(1, jax.tree.map(np.zeros_like, variables))
    found = motion.run(embedded, experiment.config.evaluate)
    missing = {name for name, value in found.items() if isinstance(value, Missing)}
    assert missing == {name for name in HELD_OUT if "_share_" in name} | {"composition_error"}


@pytest.mark.slow
def test_every_set_and_draw_is_embedded_once_a_step(make, monkeypatch):
    """By the monitors and the end together, for all evaluators, one's own too; a set here is one forward pass."""

    def first_cosine(embedded, settings):
        moved = embedded.drawn(equivariance_error.draws(embedded, settings)[1], "equivariance")
        return {"first_cosine": float(moved[0] @ embedded.part("test").embeddings[0])}

    own = Evaluator(lambda labellings: {"first_cosine": Measure("of the first image")}, first_cosine)
    monkeypatch.setitem(EVALUATORS, "own", own)
    monkeypatch.setattr(linear_probe, "linear_probe", lambda *_, **__: of_class(0.5))
    experiment, variables = make(4, evaluate__monitor=("knn", "equivariance", "linear_probe", "own"))
    evaluation = Evaluation(experiment)
    passes = Mock(wraps=evaluation.embedded(1, variables).embedder._forward)
    monkeypatch.setattr(evaluation.embedded(1, variables).embedder, "_forward", passes)
    monitor, last = evaluation.monitor(1), experiment.num_steps
    numbers = monitor(1, variables)
    assert passes.call_count == 4  # the training set, the test set, 2 draws
    assert monitor(last, variables) == numbers
    assert passes.call_count == 8
    measured = evaluation.measure(last, variables)
    # A composition of the two draws, eight draws an image of the parameters', alignment's two views.
    assert passes.call_count == 19
    assert {name: measured.numbers[name] for name in numbers} == numbers and -1 <= numbers["first_cosine"] <= 1


@pytest.mark.slow
def test_the_monitors_may_see_a_part_and_say_so(make, monkeypatch, capsys):
    """Always the same training images, at the last step too; the end has all, and the monitor's test images."""
    monkeypatch.setattr(
        "care_jax.evaluate.linear_probe.linear_probe", lambda *sets, **_: {"class": np.asarray([len(sets[0])])}
    )
    settings = {"evaluate__monitor": ("knn", "linear_probe"), "evaluate__probe__num_seeds": 1}
    experiment, variables = make(3, evaluate__monitor_examples=7, evaluate__knn_k=9, **settings)
    evaluation = Evaluation(experiment)
    seen, call = [], embed.Embedder.__call__
    monkeypatch.setattr(embed.Embedder, "__call__", lambda *given: seen.append(given[2]) or call(*given))
    monitor = evaluation.monitor(1)
    assert capsys.readouterr().err == (
        "care_jax: evaluate.monitor_examples: the monitors see 7 of 10 training images, the same ones each time; "
        "summary.json has the numbers of all; evaluate.knn_k is 9, all 7 vote\n"
    )
    for step in (1, experiment.num_steps):
        assert monitor(step, variables)["linear_probe_top1"] == 700
    labels = seen[0].labels["class"]
    assert len(set(labels.tolist())) == 7 and list(labels) == sorted(labels)
    assert evaluation.measure(experiment.num_steps, variables).numbers["linear_probe_top1"] == 1000
    assert [len(examples) for examples in seen[:5]] == [7, 3, 7, 3, 10]  # the test images once a step
    again = Evaluation(make(3, evaluate__monitor_examples=7)[0])._monitored()
    assert again.labels["class"].tolist() == labels.tolist()
    assert Evaluation(make(3, evaluate__monitor_examples=10)[0])._monitored() is None


def test_nor_is_one_image_enough_for_another_group(make):
    experiment, variables = make(1, equivariance__on="projection", equivariance__group="lorentz")
    numbers = term_space.run(Evaluation(experiment).embedded(0, variables), experiment.config.evaluate)
    assert numbers["group_residual_mean"] == SEVERAL and numbers["group_displacement_mean"] > 0


def test_not_one_readable_image_is_one_line(make, monkeypatch):
    class Unreadable:
        def __len__(self):
            return 3

        def read(self, index):
            return b"no image"

        def name(self, index):
            return f"photos/{index}.png"

    experiment, variables = make(1)
    experiment.dataset.skipped.add("photos/0.png", "not an image")
    batch = np.zeros((16, 16, 16, 3), np.uint8), np.arange(16), np.zeros(16, bool)
    monkeypatch.setattr(embed.data, "batches_in_order", lambda *_, **__: iter([batch]))
    with pytest.raises(DataError, match=r"none of 3 images .* could be read: skipped 1 .*, first photos/0\.png$"):
        make_embedder(experiment)(variables, Examples(Unreadable()))
