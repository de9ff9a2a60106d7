"""Tables of experiments: every row is a configuration that can be run, and is compared with one that is there."""

import importlib

import pytest

from care_jax.command_line import UsageError
from care_jax.configs import digits, image_folder, proteins
from care_jax.devices import sharding
from care_jax.evaluate.evaluators import find
from care_jax.experiment import build
from care_jax.sweep.table import configured
from experiments import groups_count, weight_sweep
from experiments import proteins as proteins_table

PLAIN = ("ablation", "groups", "spaces", "architectures", "proteins")
ROWS = {
    "ablation": 6,
    "groups": 4,
    "spaces": 4,
    "architectures": 6,
    "proteins": 4,
    "groups_count": 6,
    "weight_sweep": 3,
    "care_vs_simclr": 2,
}


def _config(name):
    return proteins.get_config() if name == "proteins" else digits.get_config()


def _table(name, config=None):
    module = importlib.import_module(f"experiments.{name}")
    config = config or _config(name)
    further = {"groups_count": ([4, 16], [16, 64]), "weight_sweep": ([0.0, 0.1, 1.0],)}.get(name, ())
    return module.make_table(config, *further)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_can_be_run(name):
    table, mesh = _table(name), sharding.make_mesh()
    assert len(table.rows) == ROWS[name]
    made = []
    for row in table.rows.values():
        config = configured(_config(name), row.settings, 1)
        build.check(config, mesh)
        assert config.seed == 1
        assert not row.against or row.against in table.rows
        assert len(row.labels) == len(table.headings)
        made.append(config.to_json())
    assert len(set(made)) == len(made)
    assert set(table.compared) <= set(table.columns)
    for measure in table.columns:
        assert measure == "seconds" or find(measure)


@pytest.mark.parametrize("name", [*PLAIN, "groups_count", "care_vs_simclr"])
def test_a_weight_of_0_is_no_row_with_care(name):
    config = _config(name)
    config.equivariance.weight = 0.0
    with pytest.raises(UsageError, match=r"^--config.equivariance.weight=0 is a row of its own"):
        _table(name, config)


def test_what_is_asked_for_is_kept_whatever_the_size_of_a_group():
    table = groups_count.make_table(digits.get_config(), [4, 16, 64], [16])
    products = [
        row.settings["equivariance.weight"] * (128 // row.settings["equivariance.num_groups"] - 1)
        for row in table.rows.values()
        if "equivariance.num_groups" in row.settings
    ]
    assert products == pytest.approx([0.1 * 15] * 3)
    same = groups_count.make_table(digits.get_config(), [4, 64], [16], same_lambda=True)
    assert {row.settings.get("equivariance.weight", 0.1) for row in same.rows.values()} == {0.1}
    with pytest.raises(UsageError, match=r"^--images=3: give numbers from 2 on that divide the 128 of a batch"):
        groups_count.make_table(digits.get_config(), [3], [16])
    for flag, values in (("--images", ([], [16])), ("--dimensions", ([4], []))):
        with pytest.raises(UsageError, match=f"^{flag}= is empty, and rows are made of its values: give some"):
            groups_count.make_table(digits.get_config(), *values)


def test_the_papers_views_of_proteins_are_turned():
    for branch, turned in (("config", False), ("rotation", True)):
        row = proteins_table.make_table(proteins.get_config(), branch).rows["care"]
        views = configured(proteins.get_config(), row.settings, 0).augment.invariance
        assert (views.rotation, views.jitter > 0) == (turned, not turned)
    with pytest.raises(UsageError, match=r"^--branch=other: give one of config, rotation"):
        proteins_table.make_table(proteins.get_config(), "other")


def test_the_picture_of_weights():
    table = weight_sweep.make_table(digits.get_config(), [0.0, 0.1, 1.0])
    summaries = {
        name: [{"linear_probe_top1": 80.0 + i + seed, "rotation_share_explained": 0.1 * i} for seed in range(2)]
        for i, name in enumerate(table.rows)
    }
    left, right = weight_sweep.picture(table, summaries).axes
    errors, shares = (axis.lines[0].get_ydata() for axis in (left, right))
    assert errors == pytest.approx([19.5, 18.5, 17.5]) and shares == pytest.approx([0.0, 0.1, 0.2])
    assert [label.get_text() for label in right.get_xticklabels()] == ["0", "0.1", "1"]
    assert left.get_ylim()[1] > 10.0 and right.get_ylim()[1] < 1.0  # a percentage and a share have no scale in common
    with pytest.raises(UsageError, match=r"^--weights: give two lambdas or more, each once"):
        weight_sweep.make_table(digits.get_config(), [0.1, 0.1])


def _sweep(errors):
    table = weight_sweep.make_table(digits.get_config(), [0.0, 0.1, 0.3, 1.0])
    return table, {
        name: [{"linear_probe_top1": 100.0 - error + shift} for shift in (-0.1, 0.1)]
        for name, error in zip(table.rows, errors, strict=True)
    }


def test_the_sentence_on_both_ends_of_lambda():
    assert weight_sweep.verdict(*_sweep([6.0, 4.0, 5.0, 9.0])) == (
        "Between the ends the probe's error is least at lambda 0.1, 4.0 %; it is worse at lambda 0 (6.0 %, beyond the "
        "seeds' standard deviations) and worse at lambda 1 (9.0 %, beyond the seeds' standard deviations)."
    )
    said = weight_sweep.verdict(*_sweep([3.0, 4.0, 3.9, 4.0]))
    assert "least at lambda 0.3, 3.9 %; it is NOT worse at lambda 0 (3.0 %, beyond" in said
    assert said.endswith("worse at lambda 1 (4.0 %, within the seeds' standard deviations).")
    table, results = _sweep([3.0, 4.0, 3.9, 4.0])
    assert "single seed" in weight_sweep.verdict(table, {name: found[:1] for name, found in results.items()})
    nothing = {name: [{}] for name in results}
    assert weight_sweep.verdict(table, nothing).startswith("Both ends and a middle: ")


def test_groups_that_are_chosen_when_a_run_begins_are_refused():
    config = image_folder.get_config()
    with pytest.raises(UsageError, match=r"^config.train.batch_size has no value: give one"):
        _table("groups_count", config)
    config.train.batch_size = 128
    with pytest.raises(UsageError, match=r"^config.equivariance.num_groups has no value: give one"):
        _table("groups_count", config)


def test_a_lambda_that_lacks_the_measure_leaves_the_others_their_names():
    table = weight_sweep.make_table(digits.get_config(), [0.0, 0.1, 1.0])
    measured = {"linear_probe_top1": 90.0, "rotation_share_explained": 0.5}
    lacking = measured | {"rotation_share_explained": None}
    results = dict(zip(table.rows, ([measured] * 2, [measured, lacking], [measured] * 2), strict=True))
    errors, shares = weight_sweep.picture(table, results).axes
    assert [len(axis.lines[0].get_xdata()) for axis in (errors, shares)] == [3, 2]
    assert [text.get_text() for text in shares.get_xticklabels()] == ["0", "0.1", "1"]
    assert list(shares.lines[0].get_xdata()) == [shares.get_xticks()[0], shares.get_xticks()[2]]
