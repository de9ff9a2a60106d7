"""The rows of the table of methods are what they say, and their settings go together."""

import jax
import pytest
from absl import flags

from care_jax.configs import digits
from care_jax.devices import sharding
from care_jax.experiment import build


@pytest.fixture(scope="module")
def methods():
    """The experiment, without its flags staying behind: other programs of this process have flags of the same names."""
    before = set(flags.FLAGS)
    from experiments import methods

    yield methods
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_rows(methods):
    config, mesh = digits.get_config(), sharding.make_mesh(jax.devices()[:1])
    rows = methods.rows()
    found = {(row.base, row.term) for row in rows.values()}
    assert {(base, "–") for base in methods.BASES} | {(base, "care") for base in methods.BASES} <= found
    assert {("simclr", rival) for rival in methods.RIVALS} <= found
    for row in rows.values():
        made = methods.configured(config, row, seed=3, num_steps=7)
        build.check(made, mesh)
        assert (made.seed, made.train.num_steps, made.loss.method) == (3, 7, row.base)
        assert made.equivariance.weight == row.weight
        assert made.equivariance.term in row.term or row.term == "–"
    # Rows share nothing: what one sets is not there for the next.
    assert config.to_dict() == digits.get_config().to_dict()


def test_verdicts_say_where_care_loses(methods):
    def summary(relative, probe):
        return {"relative_equivariance_median": relative, "linear_probe_top1": probe}

    results = {"byol": [summary(0.4, 50.0), summary(0.6, 52.0)], "byol_care": [summary(1.0, 40.0)]}
    (line,) = methods.verdicts(results)
    assert line.startswith("byol: CARE's median relative equivariance is 2.000 times the plain base's (NOT lower)")
    assert line.endswith("digit probe -11.00 points")
