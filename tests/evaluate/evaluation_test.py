"""Too few images, embeddings that are broken or all the same: null and a line, no traceback and no wrong number."""

import json
import warnings

import jax
import numpy as np
import pytest

from care_jax import build
from care_jax.data import DataError, DataSet, Examples
from care_jax.evaluate import results
from care_jax.evaluate.evaluation import evaluate, make_embedder, make_monitor
from care_jax.train import sharding
from care_jax.train.state import params_sha256

OF_SEVERAL = {
    "wahba_mean",
    "wahba_worst",
    "wahba_orthogonal_mean",
    "wahba_orthogonal_worst",
    "relative_equivariance_mean",
    "relative_equivariance_median",
    "uniformity",
}


@pytest.fixture(scope="module")
def make(tiny_config, small_encoder):
    """An experiment on a few of the digits, one training image a class unless said, and its variables."""

    def experiment(num_test, num_train=10, **overrides):
        config = tiny_config(evaluate__num_augmentations=2, evaluate__batch_size=16, **overrides)
        config.augment.placement = "device"
        made = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(encoder=small_encoder())
        digits = made.dataset
        train = Examples(digits.train.images[:num_train], {"label": np.arange(num_train, dtype=np.int32) % 10})
        test = Examples(digits.test.images[:num_test], {"label": np.arange(num_test, dtype=np.int32) % 10})
        few = DataSet("few digits", train, train, test, {"label": 10})
        return made._replace(dataset=few), jax.device_get(build.make_state(made)).variables

    return experiment


def _written(experiment, variables, workdir):
    """summary.json as a strict reader has it, and what was not a number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of numpy: a mean of nothing
        warnings.simplefilter("error", UserWarning)  # of matplotlib: a picture without limits
        results.write(experiment, workdir, variables, step=1, seconds=1.0)
    assert (workdir / "report.html").read_text().endswith("</html>\n")
    text = (workdir / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    return summary, {name for name, value in summary.items() if value is None}


def test_one_test_image_leaves_null_and_one_line(make, tmp_path, capsys):
    experiment, variables = make(1, evaluate__knn_k=3)
    summary, missing = _written(experiment, variables, tmp_path)
    assert OF_SEVERAL <= missing <= OF_SEVERAL | {"images_per_second", "hue_probe_top1", "hue_probe_top1_spread"}
    assert summary["test_examples"] == 1 and summary["relative_equivariance_examples"] == 0
    assert summary["displacement_mean"] > 0 and summary["knn_top1"] in (0, 100)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("care_jax: could not be measured, null in summary.json: wahba_mean, wahba_worst, ")
    assert line.endswith(", uniformity: needs at least 2 test images, there is 1")


def test_two_test_images_are_enough_and_fewer_voters_are_told(make, tmp_path, capsys):
    experiment, variables = make(2, model__head_size=8, evaluate__knn_k=200, evaluate__probe__num_seeds=1)
    summary, missing = _written(experiment, variables, tmp_path)
    assert not missing & OF_SEVERAL and summary["relative_equivariance_examples"] == 2
    assert capsys.readouterr().err.splitlines() == [
        "care_jax: knn_top1: all 10 training images vote; evaluate.knn_k is 200",
        "care_jax: could not be measured, null in summary.json: linear_probe_top1_spread: "
        "needs at least 2 seeds, evaluate.probe.num_seeds is 1",
    ]


def test_the_terms_own_vectors_too(make):
    experiment, variables = make(1, equivariance__on="features", equivariance__group="lorentz")
    evaluation = evaluate(experiment, make_embedder(experiment), variables)
    numbers = evaluation.numbers
    names = {"features_wahba_mean", "features_relative_equivariance_median", "group_residual_mean"}
    assert all(numbers[name] is None and name in evaluation.notes[-1] for name in names)
    assert numbers["features_displacement_mean"] > 0 and numbers["group_displacement_mean"] > 0


@pytest.mark.parametrize("value", [0.0, np.nan], ids=["constant", "NaN"])
def test_embeddings_that_are_constant_or_no_numbers(make, tmp_path, capsys, value):
    experiment, variables = make(4, evaluate__knn_k=3)
    variables = jax.tree.map(lambda x: np.full_like(x, value), variables)
    summary, missing = _written(experiment, variables, tmp_path)
    assert summary["params_sha256"] == params_sha256(variables["params"])
    said = capsys.readouterr().err
    monitored = make_monitor(experiment, make_embedder(experiment))(variables)
    if value == 0:
        assert not missing & OF_SEVERAL and not said
        assert summary["displacement_mean"] == summary["wahba_mean"] == summary["relative_equivariance_mean"] == 0
        assert monitored.keys() == {"knn_top1"}
    else:
        assert OF_SEVERAL | {"knn_top1", "linear_probe_top1", "displacement_mean", "alignment"} <= missing
        assert said.count("\n") == 1
        assert "not finite; the features or embeddings of 4 of 4 test images are not" in said
        assert monitored == {}


def test_not_one_readable_image_is_one_line(make):
    class Unreadable:
        def __len__(self):
            return 3

        def read(self, index):
            return b"no image"

        def name(self, index):
            return f"photos/{index}.png"

    experiment, variables = make(1)
    with pytest.raises(DataError, match=r"none of 3 images .* could be read: skipped 3 .*, first photos/0\.png$"):
        make_embedder(experiment)(variables, Examples(Unreadable()))
