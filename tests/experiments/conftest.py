"""Tables of two rows whose runs are there, but not trained: for the analyses of finished runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from tests.saved_clouds import make_cloud_config, write_structures


def _save(root: Path, configs: dict[str, ml_collections.ConfigDict], change: Callable[[Any], Any]) -> Path:
    """A run a row, seed 0, saved at step 0: the first as it was drawn, the others with every number changed."""
    from care_jax.devices import sharding
    from care_jax.experiment import build
    from care_jax.train.checkpoint import Checkpoints
    from care_jax.workdir import check_data, plain

    experiment = build.build(next(iter(configs.values())), sharding.make_mesh(jax.devices()[:1]))
    state = build.make_state(experiment)
    for row, config in configs.items():
        workdir = root / f"{row}_seed_0"
        workdir.mkdir()
        check_data(workdir, experiment.dataset)
        checkpoints = Checkpoints(workdir / "checkpoints")
        checkpoints.save(state, info={"config": plain(config), "seconds": 1.0})
        checkpoints.close()
        (workdir / "summary.json").write_text(json.dumps({"steps": 0}))
        state = jax.tree.map(lambda x: change(x) if x.dtype == np.float32 else x, state)
    return root


@pytest.fixture(scope="session")
def table_of_images(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., ml_collections.ConfigDict]
) -> Path:
    """Rows `care` and `simclr` of the digits. Not to be written to."""
    configs = {row: tiny_config(equivariance__weight=weight) for row, weight in (("care", 0.1), ("simclr", 0.0))}
    return _save(tmp_path_factory.mktemp("table_of_images"), configs, lambda x: 1.25 * x)


@pytest.fixture(scope="session")
def table_on_the_circle(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., ml_collections.ConfigDict]
) -> Path:
    """The same with embeddings of two dimensions. Not to be written to."""
    configs = {
        row: tiny_config(equivariance__weight=weight, model__head_size=2)
        for row, weight in (("care", 0.1), ("simclr", 0.0))
    }
    return _save(tmp_path_factory.mktemp("table_on_the_circle"), configs, lambda x: 1.25 * x)


@pytest.fixture(scope="session")
def table_of_clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows `care` and `same` of proteins: one encoder twice, so that nothing is different. Not to be written to."""
    pytest.importorskip("gemmi", reason="the extra `proteins`")
    root = tmp_path_factory.mktemp("table_of_clouds")
    config = make_cloud_config(write_structures(root / "structures"), data__test_fraction=0.4)
    return _save(root, {"care": config, "same": config}, lambda x: x)
