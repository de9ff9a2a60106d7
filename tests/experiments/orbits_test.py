"""The ways of embeddings while clouds turn: columns and picture of a table; images are refused."""

import pytest

from care_jax.command_line import UsageError
from experiments import orbits
from experiments.finished import FinishedTable


@pytest.mark.slow
def test_on_a_table_of_clouds(table_of_clouds):
    found = orbits.analyse(FinishedTable(table_of_clouds, "same"))
    care, same = (found.numbers[row]["0"] for row in ("care", "same"))
    assert care == same and set(care) == set(orbits.MEASURES)
    assert 0.3 < care["roundness"] <= 1.0 and 0.0 < care["radius"] < 1.0 and 0.0 < care["energy"] <= 1.0
    titles = [axis.get_title() for axis in found.figure.axes]
    assert [title.partition(":")[0] for title in titles] == [
        f"{row}, about {axis}" for row in ("care", "same") for axis in "xyz"
    ]
    ways = [line for line in found.figure.axes[0].lines if len(line.get_xdata()) > 100]
    assert len(ways) == 4  # closed: the first of the 100 steps is drawn again at the end


@pytest.mark.slow
def test_images_have_none(table_of_images):
    with pytest.raises(UsageError, match=r"^orbits are of clouds of points: --workdir is the folder of "):
        orbits.analyse(FinishedTable(table_of_images))
