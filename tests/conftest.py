"""Shared by all tests: eight CPU devices, and the numbers of the official implementation."""

import ctypes
import functools
import gc
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

# Read once, when JAX starts: it must be set before anything imports jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

# What one test compiled serves the others, those in subprocesses too: most of the suite's time is compilation.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="care_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
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


pytest_plugins = ["pytester", "tests.costs"]

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
    it compiles) says `OPTIMIZED = True`; the programs that tests start are optimised as everyone's.
    """
    jax.config.update("jax_disable_most_optimizations", not getattr(request.module, "OPTIMIZED", False))
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
        "data.image_size": 16,
        "model.backbone": "resnet10",
        "model.stem": "imagenet",
        "model.width": 4,
        "model.head_hidden_sizes": (16,),
        "model.head_size": 8,
        "train.batch_size": 32,
        "train.num_steps": 6,
        "train.log_every": 2,
        "train.evaluate_every_epochs": 0.0,
        "train.checkpoint_every_epochs": 2 / 44,  # two steps of 44 an epoch
        "equivariance.num_groups": 4,
        "equivariance.weight": 0.1,
        "evaluate.knn_k": 5,
        "evaluate.num_augmentations": 3,
        "evaluate.probe.epochs": 2,
    }
    names = {name.replace("__", "."): value for name, value in overrides.items()}
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


@pytest.fixture(scope="module")
def command() -> Iterator[ModuleType]:
    """`python -m care_jax.evaluate` without its flags staying behind: other programs have flags of the same names."""
    before = set(flags.FLAGS)
    from care_jax.evaluate import __main__ as command

    yield command
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
