"""Shares of the labels and fine-tuning, beside the frozen probe: they learn, on any devices, from pixels or files."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from care_jax.data import DataSet, Examples
from care_jax.devices import sharding
from care_jax.evaluate import finetune, fit, label_fractions
from care_jax.evaluate.evaluation import Evaluation
from care_jax.evaluate.evaluators import of_numbers
from care_jax.evaluate.measure import Missing
from care_jax.experiment import build


class Files:
    """Images as PNG files in memory."""

    def __init__(self, pixels):
        self._files = []
        for image in pixels:
            Image.fromarray(image).save(file := io.BytesIO(), "png")
            self._files.append(file.getvalue())

    def __len__(self):
        return len(self._files)

    def read(self, index):
        return self._files[index]

    def name(self, index):
        return f"{index}.png"


@pytest.fixture(scope="module")
def embedded(tiny_config, small_encoder):
    """`embedded(num_devices, files, **settings of evaluate)`: 96 digits to train on and 40 to test on."""

    def make(num_devices=8, files=False, **settings):
        settings = {"batch_size": 40, "finetune__enabled": True, **settings}
        config = tiny_config(**{f"evaluate__{name}": value for name, value in settings.items()})
        mesh = sharding.make_mesh(jax.devices()[:num_devices])
        experiment = build.build(config, mesh)._replace(encoder=small_encoder())
        variables = build.make_state(experiment).variables  # on the devices, as at the end of a run
        train, test = (
            Examples((Files if files else np.asarray)(part.images[:count]), {"class": part.labels["class"][:count]})
            for part, count in ((experiment.dataset.train, 96), (experiment.dataset.test, 40))
        )
        few = DataSet("few digits", train, train, test, {"class": 10})
        return Evaluation(experiment._replace(dataset=few)).embedded(0, variables)

    return make


TUNED = {
    "finetune__epochs": 3,
    "finetune__batch_size": 34,
    "finetune__learning_rate": 0.5,
    "finetune__num_seeds": 2,
    "finetune__augmentation": "none",
}


def _run(evaluator, embedded):
    return evaluator.run(embedded, embedded.experiment.config.evaluate)


@pytest.mark.slow
def test_fine_tuning_learns_the_same_from_pixels_and_files_on_any_devices(embedded, capsys, monkeypatch):
    shared_by, step = [], fit._step
    seen = lambda *given: shared_by.append(jax.sharding.get_abstract_mesh().size) or step(*given)  # noqa: E731
    monkeypatch.setattr(fit, "_step", seen)
    of_one = embedded(1, **TUNED)
    before = jax.device_get(of_one.variables)
    numbers = _run(finetune, of_one)
    assert numbers["finetune_examples"] == 96 and numbers["finetune_top1_spread"] >= 0
    assert 25 < numbers["finetune_top1"] <= 100  # chance is 10
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(of_one.variables))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "care_jax: fine-tuning on 96 of 96 labelled images: 6 steps of 34, 2 times" and len(lines) == 3
    assert of_one.notes[0].startswith("finetune_top1: 6 steps are few; ")
    from_files = _run(finetune, embedded(4, files=True, **TUNED))  # of which two divide the batch
    assert set(shared_by) == {1, 2}  # which convolutions look up
    # Sums over a batch differ by rounding: an image on the edge between two classes may fall to either side.
    assert from_files["finetune_top1"] == pytest.approx(numbers["finetune_top1"], abs=2.6)
    assert set(of_numbers(numbers, ("class",))) == set(numbers)


@pytest.mark.slow
def test_shares_of_the_labels(embedded):
    probed = embedded(1, label_fractions=(0.05,), probe__num_seeds=2, probe__epochs=40)
    numbers = _run(label_fractions, probed)
    assert numbers["linear_probe_5_percent_examples"] == 10
    assert 10 < numbers["linear_probe_5_percent_top1"] < 100 and numbers["linear_probe_5_percent_top1_spread"] > 0
    told = "linear_probe_5_percent_top1: 5 % of 96 images is none of each of 10 classes, one is taken"
    assert probed.notes == [told]
    assert set(of_numbers(numbers, ("class",))) == set(numbers)


@pytest.mark.slow
def test_what_can_not_be_tuned_is_said(embedded, monkeypatch):
    few = embedded(8, finetune__batch_size=4)
    few.part("train")  # by one process
    with monkeypatch.context() as of_two:
        of_two.setattr(jax, "process_count", lambda: 2)
        assert _run(finetune, few)["finetune_top1"] == Missing("a batch of 4 images is too small on 8 devices")
    off = embedded(8, finetune__enabled=False)
    assert _run(finetune, off) == _run(label_fractions, off) == {}


@pytest.mark.slow
def test_training_that_diverges_is_said(embedded):
    settings = {**TUNED, "finetune__learning_rate": 1e30, "finetune__augmentation": "crop_flip"}
    diverged = _run(finetune, embedded(1, **settings))
    assert "try a smaller evaluate.finetune.learning_rate" in diverged["finetune_top1"].reason
