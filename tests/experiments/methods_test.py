"""The rows of the experiments are what they say, and their settings go together."""

import jax
import pytest

from care_jax.command_line import UsageError
from care_jax.configs import digits
from care_jax.devices import sharding
from care_jax.evaluate.evaluators import find
from care_jax.experiment import build
from care_jax.sweep.table import configured
from experiments import care_vs_simclr, methods, own_settings, share_map

MAP = {"images": [4, 128], "weights": [0.0, 0.1], "dimensions": [16, 64], "num_steps": 7}
TABLES = [
    care_vs_simclr.make_table(digits.get_config(), "0,0.1,0.3"),
    methods.make_table(digits.get_config(), 1438, 7),
    methods.make_table(digits.get_config(), 1438, 7, sweep="0.1,1"),
    share_map.make_table(digits.get_config(), kinds=[*share_map.KINDS], **MAP),
]


@pytest.mark.parametrize("table", TABLES, ids=["care_vs_simclr", "methods", "sweep", "share_map"])
def test_rows_and_columns(table):
    config, mesh = digits.get_config(), sharding.make_mesh(jax.devices()[:1])
    for row in table.rows.values():
        made = configured(config, row.settings, seed=3)
        build.check(made, mesh)
        assert made.seed == 3 and f"{made.equivariance.weight:g}" == row.labels[-1]
        assert len(row.labels) == len(table.headings)
        assert row.against in ("", *TABLES[1].rows, *table.rows)
    # Rows share nothing: what one sets is not there for the next.
    assert config.to_dict() == digits.get_config().to_dict()
    assert all(find(name).heading for name in (*table.columns, *table.compared))


def test_the_table_of_methods_has_every_base_and_every_rival():
    found = {(row.labels[:2]) for row in TABLES[1].rows.values()}
    assert {(base, term) for base in own_settings.CARE_SCALE for term in ("–", "care")} <= found
    assert {("simclr", rival) for rival in own_settings.RIVALS if rival != "sie"} <= found
    for row in TABLES[1].rows.values():
        made = configured(digits.get_config(), row.settings, seed=0)
        assert (made.loss.method, made.train.num_steps) == (row.labels[0], 7)
        assert made.equivariance.term in row.labels[1] or row.labels[1] == "–"


def test_mistakes_are_one_line():
    with pytest.raises(UsageError, match="--sweep=1,a: give numbers"):
        methods.make_table(digits.get_config(), 1438, 7, sweep="1,a")
    with pytest.raises(UsageError, match="--weights=a: give numbers"):
        care_vs_simclr.make_table(digits.get_config(), "a")
    with pytest.raises(UsageError, match=r"^--weights=0.1,0,0.1: 0.1 is there twice; give each once"):
        care_vs_simclr.make_table(digits.get_config(), "0.1,0,0.1")


def test_the_weights_of_the_configuration_are_the_default():
    table = care_vs_simclr.make_table(digits.get_config())
    assert list(table.rows) == ["simclr", "care"]
    assert list(TABLES[0].rows) == ["simclr", "care_0.1", "care_0.3"]
    config = digits.get_config()
    config.loss.method = "byol"
    assert {name: row.labels[0] for name, row in care_vs_simclr.make_table(config).rows.items()} == {
        "byol": "byol", "care": "byol + CARE",
    }  # fmt: skip
