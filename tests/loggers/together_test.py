"""Several loggers of a run: each is told everything, one that fails is given up with a line, and the run goes on."""

import doctest
import json
import sys
import types

import pytest

from care_jax import loggers
from care_jax.loggers import Final, LoggerError, base, kept
from care_jax.loggers.base import LOGGERS
from care_jax.train.metric_writer import MetricWriter

FINAL = Final(2, {"knn_top1": 50.0}, {}, ())


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self, title: str = "Recorder", fails: str = ""):
        self.title = title
        self._fails = fails
        self.told: list[tuple] = []

    def _tell(self, *what: object) -> None:
        if what[0] == self._fails:
            raise ValueError("of a library,\nin two lines")
        self.told.append(what)

    def begin(self, step):
        self._tell("begin", step)

    def write(self, step, numbers):
        self._tell("write", step, dict(numbers))

    def finish(self, final):
        self._tell("finish", final)

    def close(self, *, failed):
        self._tell("close", failed)


@pytest.fixture
def opened_with(monkeypatch, tmp_path):
    """Loggers for a block, which are these instead of those of the package."""

    def opened(*recorders: Recorder, **more):
        for number, recorder in enumerate(recorders):
            module = types.ModuleType(f"care_jax.loggers.r{number}")
            module.start = lambda workdir, settings, say, recorder=recorder: recorder
            monkeypatch.setitem(sys.modules, module.__name__, module)
            monkeypatch.setitem(LOGGERS, f"r{number}", ("json", "train"))
        return loggers.opened([f"r{number}" for number in range(len(recorders))], tmp_path, {}, **more)

    return opened


def test_each_is_told_everything(opened_with, tmp_path):
    recorders = Recorder(), Recorder()
    with opened_with(*recorders) as opened, MetricWriter(tmp_path, start_step=1, loggers=opened) as writer:
        writer.write(2, {"loss": 1.0, "gradient_norm": 2.0})
        writer.write(2, {"knn_top1": 50.0}, "evaluate")
        opened.finish(FINAL)
    for recorder in recorders:
        assert recorder.told == [
            ("begin", 1),
            ("write", 2, {"train/loss": 1.0, "optimizer/gradient_norm": 2.0}),
            ("write", 2, {"evaluate/knn_top1": 50.0}),
            ("finish", FINAL),
            ("close", False),
        ]


@pytest.mark.parametrize("fails", ["begin", "write", "finish", "close"])
def test_one_that_fails_is_given_up_with_one_line(opened_with, tmp_path, fails):
    said, good = [], Recorder()
    with (
        opened_with(Recorder("Bad", fails), good, warn=said.append) as opened,
        MetricWriter(tmp_path, loggers=opened) as writer,
    ):
        for step in (1, 2):
            writer.write(step, {"loss": 1.0})
        opened.finish(FINAL)
    line = "Bad gets no more rows of this run (ValueError: of a library, in two lines); metrics.jsonl has them all"
    assert said == [line]
    assert [what for what, *_ in good.told] == ["begin", "write", "write", "finish", "close"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_an_error_of_the_run_closes_them_as_failed_and_stays_itself(opened_with):
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt), opened_with(recorder):
        raise KeyboardInterrupt
    assert recorder.told == [("close", True)]


def test_what_cannot_begin_is_one_line_and_closes_the_others(opened_with, monkeypatch):
    recorder = Recorder()
    opening = opened_with(recorder, Recorder())
    monkeypatch.setattr(sys.modules["care_jax.loggers.r1"], "start", lambda *_: 1 / 0)
    with (
        pytest.raises(LoggerError, match=r"config.train.loggers: r1 can't begin \(ZeroDivisionError: division"),
        opening,
    ):
        raise AssertionError("never")
    assert recorder.told == [("close", True)]


def test_names_are_checked_and_so_is_what_is_installed(monkeypatch, tmp_path):
    assert loggers.chosen(()) == () and loggers.chosen(("mlflow", "mlflow, wandb")) == ("mlflow", "wandb")
    with pytest.raises(LoggerError, match="names 'comet'; there are tensorboard, wandb, mlflow, and"):
        loggers.chosen(("tensorboard,comet",))
    monkeypatch.setitem(LOGGERS, "wandb", ("a_package_that_is_not_there", "wandb"))
    with pytest.raises(
        LoggerError, match=r"'wandb', and a_package_that_is_not_there is not installed: pip install 'care"
    ):
        loggers.check_installed(["tensorboard", "wandb"])


def test_a_folder_of_the_packages_name_is_no_package(monkeypatch, tmp_path):
    """As Weights & Biases leaves one, wandb/, where it was used."""
    (tmp_path / "a_service").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LOGGERS, "mlflow", ("a_service", "mlflow"))
    with pytest.raises(LoggerError, match="a_service is not installed"):
        loggers.check_installed(["mlflow"])


@pytest.mark.parametrize("damage", [None, "", "[1]", '{"wandb": 3}', "\xff"])
def test_what_a_run_is_called_elsewhere_is_kept_in_its_folder(tmp_path, damage):
    if damage is not None:
        (tmp_path / "loggers.json").write_text(damage)
    assert kept.kept(tmp_path, "wandb") == ""
    kept.keep(tmp_path, "wandb", "abc")
    kept.keep(tmp_path, "mlflow", "def")
    kept.keep(tmp_path, "wandb", "xyz")
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"wandb": "xyz", "mlflow": "def"}
    assert kept.kept(tmp_path, "wandb") == "xyz"


def test_examples_of_docstrings():
    ended = doctest.testmod(base)
    assert ended.attempted and not ended.failed
