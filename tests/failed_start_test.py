"""A start that fails before its first checkpoint is in nobody's way: neither the corrected command's nor the user's."""

import pytest

from care_jax import failed_start, loggers
from care_jax.experiment.config import read_config
from care_jax.loggers import kept
from care_jax.train.checkpoint import Checkpoints
from care_jax.train.metric_writer import MetricWriter
from care_jax.workdir import claim


def _fail(workdir, config, *, row=False, other=False, said=lambda line: None):
    """Up to where training begins."""
    with pytest.raises(ZeroDivisionError), claim(workdir, config, warn=said):
        (workdir / "data.json.gz").touch()
        Checkpoints(workdir / "checkpoints").close()
        with loggers.opened(["tensorboard"], workdir, {}) as to, MetricWriter(workdir, loggers=to) as writer:
            if row:
                writer.write(3, {"loss": 1.0})
        if other:
            (workdir / "notes.txt").touch()
        1 / 0  # noqa: B018


def test_its_new_folder_goes_and_so_do_new_ones_above_it(tmp_path, tiny_config):
    _fail(tmp_path / "runs" / "mine", tiny_config())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    _fail(tmp_path / "runs" / "mine", tiny_config())
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("left", ["row", "other"])
def test_what_someone_may_want_stays_and_claims_nothing(tmp_path, tiny_config, left):
    _fail(tmp_path / "run", tiny_config(), **{left: True})
    assert (tmp_path / "run" / "metrics.jsonl").exists() and list((tmp_path / "run" / "tensorboard").iterdir())
    assert (tmp_path / "run" / "notes.txt").exists() == (left == "other")
    said = []
    kept.keep(tmp_path / "run", "wandb", "of the start that failed")
    with claim(tmp_path / "run", tiny_config(seed=1), warn=said.append):
        assert read_config(tmp_path / "run").seed == 1 and kept.kept(tmp_path / "run", "wandb") == ""
    assert ["(up to step 3): this one begins anew" in line for line in said] == [True] * (left == "row")


def test_a_folder_that_was_there_stays_and_so_does_one_that_took_the_place(tmp_path, tiny_config):
    (tmp_path / "run").mkdir()
    _fail(tmp_path / "run", tiny_config())
    assert (tmp_path / "run" / "config.json").exists()
    with pytest.raises(ZeroDivisionError), claim(tmp_path / "new", tiny_config()):
        (tmp_path / "new").rename(tmp_path / "moved")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "lock").touch()
        1 / 0  # noqa: B018
    assert (tmp_path / "new" / "lock").exists() and (tmp_path / "moved" / "config.json").exists()


def test_rows_of_a_run_that_saved_something_are_no_matter(tmp_path, tiny_config, monkeypatch):
    _fail(tmp_path / "run", tiny_config(), row=True)
    (tmp_path / "run" / "checkpoints" / "3").mkdir()
    monkeypatch.setattr(failed_start, "tell_of_rows", pytest.fail)
    kept.keep(tmp_path / "run", "wandb", "goes on")
    with claim(tmp_path / "run", tiny_config()):
        assert kept.kept(tmp_path / "run", "wandb") == "goes on"
