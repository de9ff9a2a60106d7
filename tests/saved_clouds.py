"""A run on clouds of points, as its workdir, for the tests of the commands for finished runs."""

from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import pytest

_NAMES = ("ALA", "GLY", "LEU", "SER", "VAL", "LYS", "GLU", "THR", "ASP", "ILE")
# Residues of the chains, one a file: of 8 and 12 residues, every 4, they make 54 pieces.
RESIDUES = (20, 22, 24, 20, 26, 21)
PIECES = sum(1 + -(-(count - length) // 4) for count in RESIDUES for length in (8, 12))


def write_pdb(path: Path, count: int, seed: int) -> None:
    """A chain "A" of so many residues, by their Cα atoms."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(count, 3))
    places = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    lines = [
        f"ATOM  {i:5d}  CA  {rng.choice(_NAMES)} A{i:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C  "
        for i, (x, y, z) in enumerate(places, 1)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "END", ""]))


def write_structures(root: Path) -> Path:
    """A folder of `RESIDUES`."""
    for seed, count in enumerate(RESIDUES):
        write_pdb(root / f"p{seed}.pdb", count, seed)
    return root


def make_cloud_config(root: Path, **overrides: Any) -> ml_collections.ConfigDict:
    """configs/proteins.py made small enough for a test, on a folder; keys with dots, `__` for a dot."""
    from care_jax.configs import proteins

    config = proteins.get_config()
    small: dict[str, Any] = {
        "data.root": str(root),
        "data.window_lengths": (8, 12),
        "data.window_stride": 4,
        "model.width": 4,
        "model.pooling": "mean",
        "model.head_hidden_sizes": (8,),
        "model.head_size": 4,
        "equivariance.num_groups": 2,
        "train.batch_size": 8,
        "train.num_steps": 3,
        "train.steps_per_call": 1,
        "train.evaluate_every_epochs": 0.0,
        "evaluate.num_augmentations": 3,
    }
    config.update_from_flattened_dict(small | {name.replace("__", "."): value for name, value in overrides.items()})
    return config


class SavedClouds(NamedTuple):
    """A run in a workdir, saved at step 0, on a folder of structures."""

    workdir: Path
    config: ml_collections.ConfigDict
    structures: Path


@pytest.fixture(scope="session")
def saved_clouds(tmp_path_factory: pytest.TempPathFactory) -> SavedClouds:
    """Initialised and saved; nothing is trained. Not to be written to."""
    pytest.importorskip("gemmi", reason="the extra `proteins`")
    import jax

    from care_jax.devices import sharding
    from care_jax.experiment import build
    from care_jax.train.checkpoint import Checkpoints
    from care_jax.workdir import check_data, plain

    root = tmp_path_factory.mktemp("saved_clouds")
    config = make_cloud_config(write_structures(root / "structures"))
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))
    workdir = root / "run"
    workdir.mkdir()
    check_data(workdir, experiment.dataset)
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.save(build.make_state(experiment), info={"config": plain(config), "seconds": 1.0})
    checkpoints.close()
    return SavedClouds(workdir, config, root / "structures")
