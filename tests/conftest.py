"""Shared by all tests: eight CPU devices, and the numbers of the official implementation."""

import ctypes
import functools
import gc
import importlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tests.environment import COMPILES_FAST

# Read once, when JAX starts: it must be set before anything imports jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} {COMPILES_FAST} --xla_force_host_platform_device_count=8"
    )

# What one test compiled serves the others, those in subprocesses too: most of the suite's time is compilation.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="care_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jax
import ml_collections
import numpy as np
import pytest
from absl import flags
from flax import linen

from care_jax import data, models


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests first: last, one of them would keep one core waiting for the other."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """What the libraries and the tests consist of stays; the garbage collector need not look through it every time."""
    gc.collect()
    gc.freeze()


pytest_plugins = ["pytester", "tests.costs", "tests.saved_clouds"]

LARGE = 1.8e9  # bytes
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """`golden("losses")`: the arrays of tests/golden/losses.npz by key."""
    return lambda name: dict(np.load(GOLDEN / f"{name}.npz"))


@pytest.fixture(scope="module", autouse=True)
def compile_fast_and_forget(request: pytest.FixtureRequest) -> Iterator[None]:
    """What files compiled is let go when it has grown large: a process that kept it all grew to 4 GB.

    XLA leaves its last optimisations out: they cost more time than they win. A file where they win (it runs more than
    it compiles) says `OPTIMIZED = True`; what main_test starts is compiled as everyone's (see environment.py).
    """
    jax.config.update("jax_disable_most_optimizations", not getattr(request.module, "OPTIMIZED", False))
    jax.config.update("jax_enable_compilation_cache", True)  # which commands switch off for themselves
    yield
    if _resident_bytes() < LARGE:
        return
    jax.clear_caches()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc gives back to the system what was freed


def _resident_bytes() -> float:
    """Of this process; without Linux's own account of it, more than any limit."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else math.inf


@pytest.fixture(scope="session", autouse=True)
def make_the_digits_once() -> Iterator[None]:
    """Of each size; nobody writes to them."""
    before = data.DATA_SETS["digits"]
    data.DATA_SETS["digits"] = functools.cache(before[0]), before[1]
    yield
    data.DATA_SETS["digits"] = before


class SmallBackbone(linen.Module):
    """A backbone that compiles fast, takes images of any multiple of 8 pixels, and has batch norm (or not)."""

    width: int = 32
    batch_norm: bool = True

    @linen.compact
    def __call__(self, images, train=False, num_views=1):
        side = images.shape[1] // 8
        x = images.reshape(len(images), 8, side, 8, side, 3).mean((2, 4))
        x = linen.Dense(self.width)(x.reshape(len(images), -1))
        return linen.relu(models.BatchNorm()(x, train, num_views) if self.batch_norm else x)


def small_encoder(width: int = 32, batch_norm: bool = True) -> models.Encoder:
    """Takes the place of a ResNet where what is tested lies elsewhere; embeddings as large as in `make_tiny_config`."""
    return models.Encoder(SmallBackbone(width, batch_norm), models.ProjectionHead((8,), 8, batch_norm))


def make_tiny_config(**overrides: object) -> ml_collections.ConfigDict:
    """configs/digits.py made small enough for a test; keys with dots, `__` for a dot."""
    from care_jax.configs import digits

    config = digits.get_config()
    # Crops and gray: jitter and blur, drawn and compiled by every step, are tested where they are what is tested.
    small: dict[str, object] = {
        f"augment.{branch}.{probability}_probability": 0.0
        for branch in ("invariance", "equivariance")
        for probability in ("jitter", "blur")
    }
    small |= {
        # The draws of base.py: crops and gray in both branches.
        "augment.equivariance.crop": "random_resized",
        "augment.equivariance.hue": 0.1,
        "augment.equivariance.grayscale_probability": 0.2,
        "data.image_size": 16,
        "model.backbone": "resnet10",
        "model.stem": "imagenet",
        "model.width": 4,
        "model.head_hidden_sizes": (16,),
        "model.head_size": 8,
        "train.batch_size": 32,
        "train.num_steps": 6,
        "train.log_every": 2,
        "train.steps_per_call": 1,
        "train.evaluate_every_epochs": 0.0,
        "train.checkpoint_every_epochs": 2 / 44,  # two steps of 44 an epoch
        "equivariance.num_groups": 4,
        "equivariance.weight": 0.1,
        "evaluate.knn_k": 5,
        "evaluate.num_augmentations": 3,
        "evaluate.probe.epochs": 2,
    }
    names = {name.replace("__", "."): value for name, value in overrides.items()}
    if names.get("equivariance.term") in ("essl", "augself"):  # the others have no such setting
        small["equivariance.hidden_size"] = 16
    config.update_from_flattened_dict(small | names)
    return config


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., ml_collections.ConfigDict]:
    """`tiny_config(**overrides)`, see `make_tiny_config`."""
    return make_tiny_config


@pytest.fixture(name="small_encoder", scope="session")
def small_encoder_fixture() -> Callable[..., models.Encoder]:
    """`small_encoder(width=32, batch_norm=True)`."""
    return small_encoder


@pytest.fixture(scope="session")
def import_command() -> Callable[[str], ModuleType]:
    """`import_command("care_jax.neighbours")` for its functions; its flags go: others have flags of these names."""

    def imported(name: str) -> ModuleType:
        before = set(flags.FLAGS)
        module = importlib.import_module(name)
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        return module

    return imported


class SavedRun(NamedTuple):
    """A run in a workdir, on a folder of 24 images in two classes, some of them not square; its states by step."""

    workdir: Path
    config: ml_collections.ConfigDict
    states: dict[int, Any]
    images: Path


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    """Initialised and saved, then changed and saved as step 3; nothing is trained. Not to be written to."""
    from PIL import Image

    from care_jax.devices import sharding
    from care_jax.experiment import build
    from care_jax.train.checkpoint import Checkpoints
    from care_jax.workdir import check_data, plain

    root = tmp_path_factory.mktemp("saved_run")
    rng = np.random.default_rng(0)
    for i in range(24):
        folder = root / "images" / ("ant", "bee")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (5, 5 + i % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20 + 4 * (i % 3), 20)).save(folder / f"{i:02d}.png")
    config = make_tiny_config(data__name="image_folder", data__root=str(root / "images"), train__batch_size=16)
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))
    states = {0: build.make_state(experiment)}
    moved = jax.tree.map(lambda x: 1.25 * x if x.dtype == np.float32 else x, states[0])
    states[3] = moved.replace(step=states[0].step + 3)
    workdir = root / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(plain(config)))
    check_data(workdir, experiment.dataset)
    checkpoints = Checkpoints(workdir / "checkpoints")
    for step, state in states.items():
        info = {"config": plain(config), "seconds": 1.0}
        checkpoints.save(state, info=info, metrics={"knn_top1": float(-step)})
    checkpoints.close()
    return SavedRun(workdir, config, states, root / "images")


@pytest.fixture(scope="module")
def command() -> Iterator[ModuleType]:
    """`python -m care_jax.evaluate` without its flags staying behind: other programs have flags of the same names."""
    before = set(flags.FLAGS)
    from care_jax.evaluate import __main__ as command

    yield command
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
