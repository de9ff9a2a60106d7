"""The benchmark gives every method as many tries, takes the best, and its rows are configurations that can be run."""

import json
from unittest.mock import Mock

import pytest

from care_jax.command_line import UsageError
from care_jax.configs import digits
from care_jax.devices import sharding
from care_jax.evaluate.evaluators import find
from care_jax.experiment import build
from care_jax.sweep.table import configured
from experiments import benchmark, own_settings

METHODS = benchmark.methods(digits.get_config(), 1438)


def test_every_base_alone_and_with_care_and_every_rival():
    bases = ("simclr", "moco", "byol", "barlow_twins", "vicreg")
    assert set(METHODS) == {
        *bases, *(f"{base}_care" for base in bases), "simclr_equimod", "simclr_essl", "simclr_augself", "sie",
    }  # fmt: skip


def test_all_have_as_many_tries_of_one_setting():
    assert {len(set(method.values)) for method in METHODS.values()} == {3}
    table = benchmark.tries(METHODS, ("linear_probe_top1",))
    assert len(table.rows) == 3 * len(METHODS)
    for row in table.rows.values():
        config = configured(digits.get_config(), row.settings, 0)
        assert config.seed == benchmark.TUNING_SEED
        build.check(config, sharding.make_mesh())
    assert [f"{value:.3g}" for value in METHODS["simclr"].values] == ["0.000333", "0.001", "0.003"]


@pytest.mark.parametrize("fine_tuning", [True, False])
def test_rows_can_be_run_and_are_compared_with_their_base(fine_tuning):
    settings = own_settings.fine_tuning(digits.get_config(), 1438) if fine_tuning else None
    table = benchmark.make_table(METHODS, {name: of.values[2] for name, of in METHODS.items()}, settings)
    made = []
    for name, row in table.rows.items():
        config = configured(digits.get_config(), row.settings, 2)
        build.check(config, sharding.make_mesh())
        assert config.seed == 2 and config.evaluate.finetune.enabled == fine_tuning
        assert row.against == (METHODS[name].base if name != METHODS[name].base and name != "sie" else "")
        made.append(config.to_json())
    assert len(set(made)) == len(METHODS)
    assert ("finetune_10_percent_top1" in table.columns) == fine_tuning
    assert set(benchmark.RANKED) < set(benchmark.COLUMNS)
    assert all(find(name).better in ("", better) for name, better in benchmark.RANKED.items())


def test_the_try_with_the_highest_score_is_taken_the_first_of_equals():
    assert benchmark.best((1.0, 2.0, 3.0), (50.0, 70.0, 70.0)) == 2.0
    assert benchmark.best((1.0, 2.0), (float("nan"), 10.0)) == 2.0
    with pytest.raises(UsageError, match=r"^none of the tries has all measures of --chosen_by"):
        benchmark.best((1.0,), (float("nan"),))


def test_tries_are_made_and_their_scores_read(monkeypatch, tmp_path, capsys):
    """Runs in the place of which are summaries: two tiny rows of three tries."""
    scores = {"vicreg": (10.0, 30.0, 20.0), "sie": (5.0, 1.0, 2.0)}

    def run_table(table, config, workdir, *, seeds, jobs, reuse):
        for name in table.rows:
            score = scores[name.partition("_")[0]][int(name[-1])]
            (workdir / f"{name}_seed_0").mkdir(parents=True, exist_ok=True)
            (workdir / f"{name}_seed_0" / "summary.json").write_text(json.dumps({"steps": 1, "knn_top1": score}))
        return f"{seeds} seed, {jobs} jobs"

    monkeypatch.setattr(benchmark, "run_table", run_table)
    compared = benchmark.chosen(METHODS, ["vicreg", "sie"])
    found = benchmark.tuned(compared, digits.get_config(), tmp_path, by=("knn_top1",), jobs=2)
    assert found == {"vicreg": METHODS["vicreg"].values[1], "sie": METHODS["sie"].values[0]}
    said = capsys.readouterr()
    assert said.out == "1 seed, 2 jobs\n"
    assert "vicreg: optimizer.learning_rate 0.001 by knn_top1 of 0.000333: 10.0, 0.001: 30.0, 0.003: 20.0" in said.err
    # The best of what was tried is at an end of it: the optimum may lie beyond.
    assert "sie: equivariance.sie_equivariance_weight 1.5, the smallest tried, by knn_top1 of 1.5: 5.0" in said.err


def test_terms_are_tried_at_the_rate_that_their_base_took(monkeypatch, tmp_path, capsys):
    """A base that learns at a third of the rate is not given its terms at another."""
    made = []

    def run_table(table, config, workdir, *, seeds, jobs, reuse):
        made.append({name: row.settings["optimizer.learning_rate"] for name, row in table.rows.items()})
        for name in table.rows:
            (workdir / f"{name}_seed_0").mkdir(parents=True, exist_ok=True)
            (workdir / f"{name}_seed_0" / "summary.json").write_text(
                json.dumps({"steps": 1, "knn_top1": -float(name[-1])})
            )
        return ""

    monkeypatch.setattr(benchmark, "run_table", run_table)
    compared = benchmark.chosen(METHODS, ["vicreg", "vicreg_care"])
    values = benchmark.tuned(compared, digits.get_config(), tmp_path, by=("knn_top1",), jobs=1)
    low, _, _ = METHODS["vicreg"].values
    assert values["vicreg"] == low and [len(rows) for rows in made] == [3, 6]
    assert all(made[1][f"vicreg_care_try_{place}"] == low for place in range(3))
    benchmark.tuned(compared, digits.get_config(), tmp_path, by=("knn_top1",), jobs=1)
    assert [len(rows) for rows in made] == [3, 6, 6]  # the bases' tries are there
    rows = benchmark.make_table(benchmark.at_rates(compared, values), values, None).rows
    assert {row.settings["optimizer.learning_rate"] for row in rows.values()} == {low}
    alone = benchmark.chosen(METHODS, ["vicreg_care"])
    assert benchmark.at_rates(alone, {"vicreg_care": 1.0}) == alone
    monkeypatch.setattr(benchmark, "run_table", lambda *_, **__: "")
    benchmark.tuned(alone, digits.get_config(), tmp_path, by=("knn_top1",), jobs=1)
    assert "vicreg_care: vicreg is not among the methods, so the configuration's" in capsys.readouterr().err


def test_the_largest_value_tried_is_said_to_be_that(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "run_table", lambda *_, **__: "")
    for place, score in enumerate((10.0, 20.0, 30.0)):
        (tmp_path / f"byol_try_{place}_seed_0").mkdir()
        (tmp_path / f"byol_try_{place}_seed_0" / "summary.json").write_text(json.dumps({"steps": 1, "knn_top1": score}))
    benchmark.tuned({"byol": METHODS["byol"]}, digits.get_config(), tmp_path, by=("knn_top1",), jobs=1)
    assert "byol: optimizer.learning_rate 0.003, the largest tried, by knn_top1 of " in capsys.readouterr().err


def test_what_decides_is_measured_on_the_data():
    digits_set = Mock(num_classes={"class": 10, "hue": 8})
    digits_set.name = "digits"
    assert benchmark.deciding([], digits_set) == ("linear_probe_top1",)
    both = ["linear_probe_top1", "hue_probe_top1"]
    assert benchmark.deciding(both, digits_set) == tuple(both)
    assert benchmark.deciding(["knn_top1"], digits_set) == ("knn_top1",)
    plain = Mock(num_classes={"class": 10})
    plain.name = "cifar10"
    assert benchmark.deciding([], plain) == ("linear_probe_top1",)
    for name in ("hue_probe_top1", "wahba_mean", "knn"):
        with pytest.raises(
            UsageError, match=f"^--chosen_by={name} is no measure on cifar10 of which more may be better"
        ):
            benchmark.deciding([name], plain)
    with pytest.raises(UsageError, match=r"^--chosen_by=.* are of unlike units \(%, none\), so their mean"):
        benchmark.deciding(["linear_probe_top1", "rotation_share_explained"], digits_set)
    unlabelled = Mock(num_classes={})
    unlabelled.name = "image_folder"
    with pytest.raises(UsageError, match=r"^image_folder has no labels: say what decides"):
        benchmark.deciding([], unlabelled)


def test_a_method_that_there_is_not_is_one_line():
    with pytest.raises(UsageError, match=r"^--only=dino is no method; there are simclr, simclr_care, "):
        benchmark.chosen(METHODS, ["dino"])
