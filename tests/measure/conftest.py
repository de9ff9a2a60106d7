"""Shared by the tests of the command: encoders whose numbers are known, and the command in a folder with them."""

import importlib
import json
import sys

import pytest
from absl import flags, logging

# With the hue each point turns by that angle, and by twice that in the other plane; noise knows nothing of anything.
ENCODERS = """
import zlib

import numpy as np
from matplotlib.colors import rgb_to_hsv

RNG = np.random.default_rng(0)

def hue(images):
    turns, saturation, value = np.moveaxis(rgb_to_hsv(images), -1, 0)
    weights = saturation * value * np.linspace(0, 1, images.shape[1])
    points = [weights * wave(2 * np.pi * k * turns) for k in (1, 2) for wave in (np.cos, np.sin)]
    return np.stack(points, axis=-1).mean((1, 2))

hue.image_size = 16

def colour(images):
    return images.mean((1, 2))

def noise(images): return np.stack([np.random.default_rng((1, zlib.crc32(x))).normal(size=4) for x in images])
def drops(images): return images.mean((1, 2)) * (RNG.random((len(images), 3)) > 0.1)
def normalises(images): return images.mean((1, 2)) - images.mean((0, 1, 2))
def flat(images): return np.zeros(len(images))
def short(images): return np.zeros((len(images) - 1, 3))
def text(images): return [["a"]] * len(images)
def infinite(images): return np.full((len(images), 3), np.nan)
def raises(images): raise KeyError("wei\\nghts")
def zero(images): return np.zeros((len(images), 3))
def leaps(images): return np.zeros((len(images), RNG.integers(1, 1000)))
def sized(images): return colour(images)
sized.image_size = (224, 224)
number = 3
"""


@pytest.fixture(scope="module")
def module():
    """The command's module; its flags, and it, go at the end: others have flags of these names."""
    before, verbosity = set(flags.FLAGS), logging.get_verbosity()
    # Not `from care_jax.measure import`: the package would still have what an earlier file's tests have let go.
    module = importlib.import_module("care_jax.measure.__main__")
    yield module
    logging.set_verbosity(verbosity)
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    del sys.modules[module.__name__]


@pytest.fixture
def measure(module, tmp_path, monkeypatch):
    """Runs it as a command line would, in a folder with encoders.py; gives what measure.json holds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "encoders.py").write_text(ENCODERS)
    own = set(flags.FLAGS)

    def run(*argv):
        argv = ["measure", *argv, "--nocompilation_cache", "--out=out"]
        monkeypatch.setattr(sys, "argv", argv)
        module.main(module.parse(argv))
        return json.loads((tmp_path / "out" / "measure.json").read_text())

    yield run
    sys.modules.pop("encoders", None)
    for name in set(flags.FLAGS) - own:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
