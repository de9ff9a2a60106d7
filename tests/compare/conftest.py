"""Shared by the tests of comparisons: folders of runs that took no time."""

import gzip
import json

import pytest

from care_jax.workdir import plain
from tests.saved_clouds import make_cloud_config


@pytest.fixture
def make_run(tmp_path, tiny_config):
    """`make_run(name, summary={...}, rows=[...], **settings)`: a run's folder; summary None: it is not finished.

    With clouds=True it is one on clouds of points.
    """

    def make(name, summary=(), rows=None, *, clouds=False, **settings):
        workdir = tmp_path / name
        workdir.mkdir(parents=True)
        config = plain(make_cloud_config("structures", **settings) if clouds else tiny_config(**settings))
        (workdir / "data.json.gz").write_bytes(gzip.compress(b"data"))
        (workdir / "config.json").write_text(json.dumps(config))
        if summary is not None:
            numbers = {"knn_top1": 50.0, "wahba_mean": 0.5, "steps": 6, "seconds": 9.0, "device": "1 x cpu"}
            numbers |= {"config": config, **dict(summary)}
            (workdir / "summary.json").write_text(json.dumps(numbers))
        if rows is None:
            rows = [{"step": step, "loss": 5.0 / step, "knn_top1": 40.0 + step} for step in (2, 4, 6)]
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return workdir

    return make
