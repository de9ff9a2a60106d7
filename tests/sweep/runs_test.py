"""A row of a table is of the run that it is said to be of."""

import json

import pytest

from care_jax.command_line import UsageError
from care_jax.data import DataError
from care_jax.experiment import build
from care_jax.experiment.choice import filled
from care_jax.sweep import runs
from care_jax.workdir import check_data, plain


def _edit(path, **changed):
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (summary | changed).items() if value is not None}))


def test_identical_runs_are_not_made_again(made, tmp_path, tiny_config):
    for log_every in (2, 3):  # which changes no number
        summary = runs.finished_run(tiny_config(train__log_every=log_every), tmp_path / "a")
        assert summary["knn_top1"] == 50.0
    assert made == ["a"]


@pytest.mark.parametrize("says_its_settings", [True, False])
def test_a_run_with_other_settings_is_refused_with_the_difference(made, tmp_path, tiny_config, says_its_settings):
    """The README's two commands in a row; and more steps in the same folder."""
    runs.finished_run(tiny_config(), tmp_path / "a")
    if not says_its_settings:  # as before
        _edit(tmp_path / "a" / "summary.json", config=None)
    for name, change in (("train.num_steps", r"6 -> 12"), ("augment.equivariance.hue", r"0\.1 -> 0\.5")):
        value = {"train.num_steps": 12, "augment.equivariance.hue": 0.5}[name]
        with pytest.raises(UsageError, match=rf"a holds a run with other settings \(config\.{name}: {change}\)"):
            runs.finished_run(tiny_config(**{name: value}), tmp_path / "a")
    assert made == ["a"]


def test_the_evaluation_of_an_earlier_step_is_no_result(made, tmp_path, tiny_config):
    runs.finished_run(tiny_config(), tmp_path / "a")
    _edit(tmp_path / "a" / "summary.json", steps=4)
    with pytest.raises(UsageError, match=r"summary.json is of step 4, not 6: .*care_jax.evaluate --workdir="):
        runs.finished_run(tiny_config(), tmp_path / "a")


def test_the_settings_are_those_that_the_summary_was_made_with(made, tmp_path, tiny_config):
    """Which an evaluation of its own may have had others of."""
    runs.finished_run(tiny_config(), tmp_path / "a")
    _edit(tmp_path / "a" / "summary.json", config=plain(tiny_config(evaluate__knn_k=3)))
    path = tmp_path / "a"
    with pytest.raises(UsageError, match=r"other settings \(config\.evaluate\.knn_k: 3 -> 5\)") as caught:
        runs.finished_run(tiny_config(), path)
    assert f": its evaluation alone is another, and care-jax evaluate --workdir={path} makes" in str(caught.value)
    assert "delete" not in str(caught.value)
    with pytest.raises(UsageError, match=r"evaluate --workdir=\S+ --config\.evaluate\.knn_k=9 makes its numbers anew"):
        runs.finished_run(tiny_config(evaluate__knn_k=9), path)
    with pytest.raises(UsageError, match="delete it to make it anew"):  # no evaluation trains
        runs.finished_run(tiny_config(train__num_steps=9), path)
    (path / "config.json").write_text(json.dumps(plain(tiny_config(seed=1))))
    with pytest.raises(UsageError, match="delete it to make it anew"):
        runs.finished_run(tiny_config(), path)


def test_what_a_run_chose_elsewhere_counts_here(made, tmp_path, tiny_config):
    """On a GPU other sizes are chosen than by the process of the sweep, which is on the CPU."""
    config = tiny_config(train__num_steps=None, train__epochs=1.0)
    config.train.batch_size = config.equivariance.num_groups = None
    chosen = {"train.batch_size": 256, "equivariance.num_groups": 16}
    runs.finished_run(filled(config, chosen), tmp_path / "a")
    _edit(tmp_path / "a" / "summary.json", steps=1438 // 256)
    assert runs.finished(config, tmp_path / "a")["steps"] == 5


def test_epochs_and_their_steps_are_the_same(made, tmp_path, tiny_config):
    config = tiny_config(train__num_steps=None, train__epochs=2.0)
    runs.finished_run(config, tmp_path / "a")
    _edit(tmp_path / "a" / "summary.json", steps=2 * 44)
    assert runs.finished_run(config, tmp_path / "a")["steps"] == 88
    _edit(tmp_path / "a" / "summary.json", steps=90)
    with pytest.raises(UsageError, match="is of step 90, not 88"):
        runs.finished_run(config, tmp_path / "a")


def test_other_data_is_refused(made, tmp_path, tiny_config, monkeypatch):
    runs.finished_run(tiny_config(), tmp_path / "a")
    check_data(tmp_path / "a", build.load_data(tiny_config(data__image_size=24)))
    with pytest.raises(DataError, match="changed since"):
        runs.finished_run(tiny_config(), tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"3", b'"steps"', b"\xff", b"[" * 100_000])
def test_a_damaged_summary_is_one_line(made, tmp_path, tiny_config, content):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"summary.json can.t be read .*delete it") as caught:
        runs.finished_run(tiny_config(), tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_summary_that_cannot_be_read_is_one_line(made, tmp_path, tiny_config):
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(UsageError, match=r"summary.json can.t be read .*Is a directory"):
        runs.finished_run(tiny_config(), tmp_path)
