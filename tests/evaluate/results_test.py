"""Words of a report of clouds: what is told of images elsewhere is told of clouds."""

from care_jax.evaluate import evaluators, results


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
