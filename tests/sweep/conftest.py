"""Shared by the tests of sweeps and tables: runs that take no time, and processes that are none."""

import json
import os
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from care_jax.experiment.config import from_plain
from care_jax.sweep import processes, runs
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


class Children:
    """In the place of processes: each ends when it is next asked, with a finished run, or as `ends` says for seed 1."""

    def __init__(self, finish):
        self.finish = finish
        self.ends: tuple[int, str] | None = None  # status, what it says
        self.started, self.going, self.most = [], set(), 0

    def __call__(self, arguments, *, stdin, stdout, stderr, text, env):
        child = Child(self, Path(arguments[-2]))
        self.started.append((child.workdir.name, arguments[-1]))
        self.going.add(child)
        self.most = max(self.most, len(self.going))
        return child


class Child:
    returncode = None

    def __init__(self, children, workdir):
        read, write = os.pipe()
        self.children, self.workdir = children, workdir
        self.stdin, self.settings = os.fdopen(write, "w"), os.fdopen(read)

    def poll(self):
        self.children.going.discard(self)
        with self.settings:
            config = from_plain(json.load(self.settings))
        self.returncode = 0
        if self.children.ends is None or config.seed != 1:
            self.children.finish(config, self.workdir)
        else:
            self.returncode, said = self.children.ends
            with (self.workdir / "log.txt").open("a") as log:
                log.write(said)
        return self.returncode

    def terminate(self):
        self.children.going.discard(self)
        self.settings.close()

    def wait(self):
        assert self not in self.children.going, "it is waited for and was not told to stop"


@pytest.fixture
def children(monkeypatch, finish):
    made = Children(finish)
    monkeypatch.setattr(subprocess, "Popen", made)
    monkeypatch.setattr(processes, "_POLL", 0.0)
    monkeypatch.setattr(processes, "stops", Mock(noted=lambda: ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    monkeypatch.setattr(processes, "_gpus", lambda: [])
    return made
