"""What the command line gives an experiment is what its rows have, or is refused, or told of."""

import pytest

from care_jax.command_line import UsageError
from care_jax.configs import digits
from care_jax.experiment.settings import ConfigError
from care_jax.sweep.table import Row, Table
from experiments import command

TABLE = Table(
    ("lambda",),
    {
        "plain": Row(("0",), {"equivariance.weight": 0.0, "train.num_steps": 7, "loss.method": "vicreg"}),
        "care": Row(("0.1",), {"equivariance.weight": 0.1, "train.num_steps": 7, "loss.method": "byol"}),
    },
    ("knn_top1",),
    (),
)


@pytest.fixture
def given(monkeypatch):
    names = []
    monkeypatch.setattr(command, "given_settings", lambda: names)
    return names


def test_settings_that_a_row_has_are_heard(given, capsys):
    given += ["equivariance.weight", "optimizer.learning_rate", "equivariance.num_groups"]
    command.check_given(TABLE, digits.get_config())
    assert capsys.readouterr().err == ""


def test_settings_that_every_row_replaces_are_refused(given):
    given.append("train.num_steps")
    with pytest.raises(
        UsageError, match=r"^config.train.num_steps is given, but every row of this table has its own, 7: "
    ):
        command.check_given(TABLE, digits.get_config())
    given[:] = ["loss.method"]
    with pytest.raises(UsageError, match="has its own, 'byol' or 'vicreg': leave it out"):
        command.check_given(TABLE, digits.get_config())
    given[:] = ["seed"]
    with pytest.raises(UsageError, match=r"^config.seed is given, but rows have the training seeds from 0 on"):
        command.check_given(TABLE, digits.get_config())


def test_settings_without_effect_in_all_rows_are_told_once(given, capsys):
    given.append("train.epochs")
    command.check_given(TABLE, digits.get_config())
    assert (
        capsys.readouterr().err.count("config.train.epochs is given, and has no effect: config.train.num_steps is 7")
        == 1
    )


def test_settings_that_the_data_lacks_are_refused(given):
    given.append("data.root")
    config = digits.get_config()
    config.data.root = "images"
    with pytest.raises(ConfigError, match=r"^config.data.root is given, and digits has none"):
        command.check_given(TABLE, config)


def test_rows_are_chosen_by_their_folders_in_the_tables_order():
    assert command.chosen(TABLE, []) == TABLE
    assert list(command.chosen(TABLE, ["care", "plain"]).rows) == ["plain", "care"]
    assert command.chosen(TABLE, ["care"]) == TABLE._replace(rows={"care": TABLE.rows["care"]})
    with pytest.raises(UsageError, match=r"^--only=a is no row; there are plain, care$"):
        command.chosen(TABLE, ["care", "a"])


def test_rows_of_care_are_not_made_with_another_term():
    config = digits.get_config()
    command.check_term(config)
    config.equivariance.term = "equimod"
    with pytest.raises(
        UsageError, match=r"^config.equivariance.term is equimod, and this table has rows of CARE: add "
    ):
        command.check_term(config)


def test_a_value_that_is_there_twice_would_be_one_row():
    assert command.numbers("--weights", "0,0.1,0.12") == [0.0, 0.1, 0.12] and command.numbers("--weights", "") == []
    for text in ("0.1,0.10", "1,0,1e0", "0.1,0.10000001"):  # folders are named by six digits
        with pytest.raises(UsageError, match=r"^--weights=.*: (0\.1|1) is there twice; give each once \(of"):
            command.numbers("--weights", text)
    with pytest.raises(UsageError, match=r"^--images=4,16,4: 4 is there twice"):
        command.whole_numbers("--images", ["4", "16", "04"])
