"""Shared by the tests of the experiments: runs that take no time."""

import json

import pytest

from care_jax.sweep import runs
from care_jax.workdir import plain


def finish(config, workdir):
    """What a run leaves, as far as tables look at it."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(plain(config)))
    summary = {"knn_top1": 50.0 + config.seed, "steps": 6, "seconds": 60.0, "config": plain(config)}
    (workdir / "summary.json").write_text(json.dumps(summary))
    return True


@pytest.fixture(name="finish")
def finish_fixture():
    """`finish(config, workdir)`: the folder of a finished run."""
    return finish


@pytest.fixture
def made(monkeypatch):
    """The names of the folders whose runs are made."""
    workdirs = []
    monkeypatch.setattr(runs, "run", lambda config, path: workdirs.append(path.name) or finish(config, path))
    return workdirs
