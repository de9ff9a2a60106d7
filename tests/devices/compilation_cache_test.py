"""The cache of compiled programs: where it lies, what it says, that it changes no bit, and that no run ends for it."""

import errno
import os
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from care_jax.devices import compilation_cache

SETTINGS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """As in a new process: no folder is configured, and the user's cache folder is a temporary one."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", True)
    jax_cache.reset_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "1")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield tmp_path / "cache" / "care_jax"
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def _lowered(size: int = 5):
    """A program with sums whose order decides their last bits."""

    def step(x):
        return jnp.tanh(x @ x.T).sum(0), jnp.fft.rfft(x).real.mean()

    return jax.jit(step).lower(jnp.zeros((size, 300)))


def _compiled(said: list[str], size: int = 5):
    lowered = _lowered(size)
    with compilation_cache.compiling(lowered, "the step", tell=said.append):
        return lowered.compile()


def _files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*-cache"))


def test_the_second_start_loads_the_same_bits_and_says_so(cache):
    said: list[str] = []
    jax.config.update("jax_enable_compilation_cache", False)
    without = _compiled([])
    jax.config.update("jax_enable_compilation_cache", True)
    jax_cache.reset_cache()
    compilation_cache.switch_on(warn=pytest.fail)
    cold = _compiled(said)
    assert len(_files(cache)) == 1 and cache.stat().st_mode & 0o700 == 0o700
    warm = _compiled(said)
    x = np.random.default_rng(0).normal(size=(5, 300)).astype(np.float32)
    outcomes = [b"".join(np.asarray(part).tobytes() for part in program(x)) for program in (without, cold, warm)]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert said[0].startswith("compiling the step (for the first time on this machine: it may take a minute or more, c")
    assert said[1].startswith("compiled in ")
    assert said[2] == "loading the step, compiled before" and said[3].startswith("loaded in ")
    _files(cache)[0].unlink()
    jax_cache.reset_cache()
    _compiled(said)
    assert said[4] == "compiling the step (about 1 s on this machine, cached for the next time)"


def test_a_program_that_differs_in_numbers_alone_is_expected_to_take_as_long(cache):
    compilation_cache.switch_on(warn=pytest.fail)
    said: list[str] = []
    _compiled([])
    _compiled(said, size=7)
    assert said[0] == "compiling the step (about 1 s on this machine, cached for the next time)"
    jax.config.update("jax_enable_compilation_cache", False)
    jax_cache.reset_cache()
    _compiled(said, size=9)
    assert said[2].endswith("not cached: the next time takes as long)")


def test_what_is_configured_stays_and_what_is_switched_off_too(cache, tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    compilation_cache.switch_on(warn=pytest.fail)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(compilation_cache.distributed, "is_active", lambda: True)
    compilation_cache.switch_on(warn=pytest.fail)
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.undo()
    compilation_cache.switch_on(False, warn=pytest.fail)
    compilation_cache.switch_on(warn=pytest.fail)
    assert jax.config.jax_compilation_cache_dir is None and os.environ.pop("JAX_ENABLE_COMPILATION_CACHE") == "0"


def test_a_folder_that_cannot_be_written_is_a_line(cache, tmp_path):
    (tmp_path / "cache").write_text("")
    said: list[str] = []
    compilation_cache.switch_on(warn=said.append)
    (line,) = said
    assert str(tmp_path / "cache") in line and "can't be used" in line and "--nocompilation_cache" in line
    assert jax.config.jax_compilation_cache_dir is None
    assert _compiled([])(np.ones((5, 300), np.float32))


def test_a_full_disk_and_a_damaged_file_are_a_line_each_and_the_file_is_made_anew(cache, monkeypatch):
    said: list[str] = []
    compilation_cache.switch_on(warn=said.append)
    monkeypatch.setattr("jax._src.lru_cache.LRUCache.put", _full)
    _compiled([])
    _compiled([], size=6)
    (line,) = said
    assert "can't be kept" in line and "No space left on device" in line
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    assert not _files(cache)
    _compiled([])
    (file,) = _files(cache)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    _compiled([])
    assert len(said) == 2 and "can't be read, and is compiled anew" in said[1]
    assert len(file.read_bytes()) > len(whole) - 100


def _full(cache, key: str, value: bytes) -> None:
    """Half of it is written."""
    Path(cache.path, f"{key}-cache").write_bytes(value[:10])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_was_used_least_lately_goes(tmp_path):
    now = time.time()
    for i in range(4):
        path = tmp_path / str(i % 2) / f"{i}-cache"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (now - 100 * i, now - 1000))
    compilation_cache.prune(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.rglob("*-cache")) == ["0-cache", "1-cache"]
