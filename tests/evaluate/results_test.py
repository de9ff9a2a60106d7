"""Words of a report of clouds: what is told of images elsewhere is told of clouds; what guessing reaches."""

import doctest

import numpy as np

from care_jax.evaluate import evaluators, results, verdict


def test_measures_speak_of_clouds():
    measures = evaluators.measures(("class",))
    for name, measure in measures.items():
        told = results._of_clouds(measure)
        assert "image" not in " ".join((told.meaning, told.unit, told.chance, told.heading)), name
        assert "an cloud" not in told.meaning and told.better == measure.better and told.decimals == measure.decimals
    assert results._of_clouds(measures["images_per_second"]).unit == "clouds/s"
    assert results._of_clouds(measures["skipped_files"]).meaning == "files that could not be read"


def test_the_table_of_clouds_has_their_unit():
    assert "images" in results.table({"test_examples": 3}, ())
    table = results.table({"test_examples": 3}, (), clouds=True)
    assert "clouds" in table and "images" not in table


def test_guessing():
    assert doctest.testmod(results).failed == 0
    assert results.guessing(np.array([0, 1, 1, 2], np.int32), 4) == 50.0
    assert results.guessing(np.zeros(0, np.int32), 4) == 25.0


def test_an_encoder_that_says_the_commonest_class_keeps_none():
    """95 of 100 images of one class: 95.2 % is what knowing nothing reaches."""
    chance = results.guessing(np.repeat(np.arange(2, dtype=np.int32), [95, 5]), 2)
    told = verdict.verdict({"knn_top1": 95.2}, evaluators.measures(("class",)), None, {"knn_top1": chance})
    assert "classes are lost, 95.2 % by kNN (chance 95)" in told
