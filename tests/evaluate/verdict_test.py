"""The sentence and the cards, case by case: kept, lost, nothing moves, no labels, absent numbers, a baseline."""

import doctest
import math

import pytest

from care_jax.evaluate import evaluators, verdict
from care_jax.evaluate.baseline import Baseline
from care_jax.evaluate.measure import Measure

MEASURES = {
    **evaluators.measures(("class", "hue")),
    "rotation_share_explained": Measure("of motion", better="higher"),
    "hue_follow": Measure("of neighbours"),
    "follow_mean_reciprocal_rank": Measure("of retrieval", better="higher", heading="MRR"),
}
CHANCES = {"knn_top1": 10.0, "linear_probe_top1": 10.0, "hue_probe_top1": 12.5, "hue_knn_top1": 12.5}
NUMBERS = {
    "rotation_share_explained": 0.62,
    "rotation_share_explained_low": 0.58,
    "rotation_share_explained_high": 0.66,
    "rotation_share_permuted": 0.01,
    "displacement_mean": 0.8,
    "wahba_mean": 0.4,
    "knn_top1": 97.0,
    "linear_probe_top1": 98.0,
    "linear_probe_top1_spread": 0.3,
    "hue_probe_top1": 90.0,
    "relative_equivariance_median": 0.03,
    "test_examples": 359,
}


def _said(*changes: str, baseline=None, measures=MEASURES, **numbers) -> str:
    kept = {name: value for name, value in {**NUMBERS, **numbers}.items() if name not in changes}
    return verdict.verdict(kept, measures, baseline, CHANCES)


def test_all_is_well():
    assert _said() == (
        "One rotation explains 62 % (58 to 66) of what an augmentation does to the embeddings; classes are kept, "
        "97.0 % by kNN (chance 10); the hue is kept, 90.0 % by a linear probe (chance 12.5)."
    )


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (
            {"rotation_share_explained": 0.2, "rotation_share_explained_low": 0.1},
            "one rotation explains only 20 % (10 to 66)",
        ),
        ({"rotation_share_explained_low": 0.01}, "no rotation explains anything of what an augmentation does"),
        (
            {"rotation_share_explained_low": None, "rotation_share_explained": -0.2},
            "-20 %, no more than permuted",
        ),
        ({"rotation_share_explained_low": None}, "one rotation explains 62 % of what"),
        (
            {"features_rotation_share_explained": 0.7},
            "and 70 % on the features, where the term acts;",
        ),
        ({"displacement_mean": 0.01}, "the augmentations hardly move the embeddings (by 0.01, unrelated ones are 1.41"),
        ({"displacement_mean": 0.0, "rotation_share_explained": None}, "hardly move"),
        ({"rotation_share_explained": None}, "rotation, fitted and judged on the same examples, explains 75 % of what"),
        ({"rotation_share_explained": None, "wahba_mean": 0.76}, "on the same examples, explains only 10 % of what"),
        (
            {"rotation_share_explained": math.nan, "wahba_mean": None},
            "how an augmentation moves the embeddings is not known",
        ),
        ({"knn_top1": 11.0}, "classes are lost, 11.0 % by kNN (chance 10)"),
        ({"knn_top1": 78.0}, "classes are kept, 78.0 %"),  # 76 % of the way from chance
        ({"knn_top1": 60.0}, "classes are partly kept, 60.0 %"),
        ({"knn_top1": 40.0}, "classes are mostly lost, 40.0 %"),
        ({"knn_top1": None}, "classes are kept, 98.0 % by a linear probe (chance 10)"),
        ({"knn_top1": None, "linear_probe_top1": None}, "whether classes are kept is not known, there are no labels"),
        (
            {"knn_top1": None, "linear_probe_top1": None, "principal_component_error": 12.4},
            "a regression tells the longest direction of turned clouds to 12 degrees (chance 57)",
        ),
        (
            {
                "knn_top1": None,
                "linear_probe_top1": None,
                "principal_component_error": 12.4,
                "radius_of_gyration_explained": 0.914,
            },
            "to 12 degrees (chance 57), and explains 91 % of their radius of gyration",
        ),
        ({"hue_probe_top1": 15.0}, "the hue is lost, 15.0 % by a linear probe (chance 12.5)"),
        ({"hue_probe_top1": None, "hue_knn_top1": 46.0}, "the hue is mostly lost, 46.0 % by kNN (chance 12.5)"),
        ({"hue_follow": 0.75}, "after a change of hue 75 % of the neighbours follow it"),
    ],
)
def test_what_is_said_of_the_numbers(numbers, words):
    said = _said(**numbers)
    assert words.lower() in said.lower()
    assert said[0].isupper() and said.endswith(".") and said.count(". ") == 0


def test_without_labels_or_numbers_nothing_is_made_up():
    said = verdict.verdict({}, {})
    assert said == (
        "How an augmentation moves the embeddings is not known; whether classes are kept is not known, there are no "
        "labels."
    )
    assert verdict.cards({}, {}) == []
    assert "hue" not in _said("hue_probe_top1")
    assert "told by kNN of 97.0 %" in verdict.verdict(NUMBERS, MEASURES)  # with an unknown level of chance
    many = {f"{name}_probe_top1": Measure("") for name in "abcde"}
    told = verdict.verdict({f"{name}_probe_top1": 50.0 for name in "abcde"}, many)
    assert "the c is told" in told and "the d" not in told and "2 more labellings are in the table" in told


def test_better_and_worse_than_a_baseline():
    other = {"rotation_share_explained": 0.3, "knn_top1": 96.8, "linear_probe_top1": 99.9, "hue_probe_top1": 95.0}
    said = _said(baseline=Baseline("simclr", {**other, "test_examples": 359}))
    assert said.partition(". ")[2] == (
        "Against the baseline simclr it is better in motion that one rotation explains (62 % against 30 %); worse in "
        "linear probe (98.0 % against 99.9 %) and hue probe (90.0 % against 95.0 %); not told apart in kNN (97.0 % "
        "against 96.8 %)."
    )
    assert _said(baseline=Baseline("simclr", {})) == _said()
    assert _said(baseline=Baseline("simclr", {"knn_top1": None})) == _said()


@pytest.mark.parametrize(
    ("share", "knn", "linear", "words"),
    [
        # The intervals are 4 points to either side, the others' too: together 5.7.
        (0.57, 97.0, 98.0, "not told apart in motion"),
        (0.55, 97.0, 98.0, "better in motion"),
        (0.69, 97.0, 98.0, "worse in motion"),
        # An accuracy of 97 % of 359 images is known to 0.9, one of 95.5 % to 1.1: together 1.4.
        (None, 95.5, 98.0, "better in kNN"),
        (None, 95.8, 98.0, "not told apart in kNN"),
        # The spread over seeds, where it is larger: 3 points.
        (None, 97.0, 95.0, "and linear probe (98.0 % against 95.0 %)."),
    ],
)
def test_what_two_runs_would_differ_by_if_drawn_again(share, knn, linear, words):
    interval = (
        {}
        if share is None
        else {f"rotation_share_explained_{x}": share + y for x, y in (("low", -0.04), ("high", 0.04))}
    )
    other = {"rotation_share_explained": share, **interval, "knn_top1": knn, "linear_probe_top1": linear}
    said = _said(
        "hue_probe_top1", baseline=Baseline("simclr", {**other, "test_examples": 359}), linear_probe_top1_spread=3.1
    )
    assert words in said


def test_at_most_six_cards_with_direction_chance_and_baseline():
    other = Baseline(
        "simclr",
        {"knn_top1": 90.0, "linear_probe_top1": 98.1, "displacement_mean": 0.5, "relative_equivariance_median": 0.2},
    )
    numbers = {**NUMBERS, "hue_follow": 0.7, "follow_mean_reciprocal_rank": 0.5}
    numbers["relative_equivariance_permuted"] = 0.015
    found = verdict.cards(numbers, MEASURES, other, CHANCES)
    assert [(card.heading, card.value) for card in found] == [
        ("motion that one rotation explains", "62 %"),
        ("kNN", "97.0 %"),
        ("linear probe", "98.0 %"),
        ("hue probe", "90.0 %"),
        ("hue follow", "70 %"),
        ("relative equivariance, median", "0.0300"),
    ]
    share, knn, linear, hue, _, gamma = found
    assert (share.spread, share.chance, share.direction) == ("58 to 66 %", "permuted pairs 1 %", "higher is better")
    assert (knn.chance, knn.baseline) == ("chance 10 %", "90.0 % in simclr, this is better")
    assert (linear.spread, linear.baseline) == ("± 0.3", "98.1 % in simclr, not told apart")
    assert hue.direction == "higher keeps more of the hue"
    assert (gamma.direction, gamma.baseline) == ("lower is better", "0.2000 in simclr, this is better")
    assert gamma.chance == "permuted pairs 0.0150"
    few = {name: value for name, value in NUMBERS.items() if not name.startswith("rotation_share")}
    fallback, *_, moved = verdict.cards(few, MEASURES, other, CHANCES)
    assert fallback.value == "75 %" and "the examples it was fitted to" in fallback.heading and fallback.chance == ""
    assert moved.baseline == "0.5000 in simclr"  # neither is better


def test_examples():
    assert not doctest.testmod(verdict).failed


def test_clouds_have_cards_of_their_direction_and_size():
    numbers = {"rotation_share_explained": 0.8, "principal_component_error": 7.4, "radius_of_gyration_explained": 0.9}
    found = verdict.cards(numbers, MEASURES, chances={"principal_component_error": math.degrees(1)})
    assert [card.heading for card in found][1:] == ["principal component", "radius of gyration"]
    assert (found[1].value, found[1].chance) == ("7.4 degrees", "chance 57.3 degrees")
