"""Cores as devices: how many, and who is asked first."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from care_jax.devices import accelerator, cores, distributed
from tests.environment import on_cpus

_TOLD = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
import jax
from care_jax.devices import cores
if sys.argv[2:] == ["begun"]:
    jax.devices()
cores.share_out([64])
print(jax.device_count(), int(jax.jit(jax.numpy.sum)(jax.numpy.arange(4))))
"""


@pytest.mark.parametrize(
    ("number", "divide", "expected"),
    [
        (1, [], 1),
        (2, [], 2),
        (3, [128], 2),
        (64, [], cores.MOST),
        (64, [128, 6], 2),
        (64, [128, 33], 1),
        (64, [2], 2),
    ],
)
def test_the_number_divides_every_batch(number, divide, expected):
    assert cores.count(number, iter(divide)) == expected


@pytest.fixture
def updates(monkeypatch):
    """What JAX is told, of a process with six cores in which nothing was said."""
    found = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    monkeypatch.setattr(cores, "available", lambda: 6)
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    return found


def test_cores_become_devices(updates):
    cores.share_out([128])
    assert updates == {"jax_num_cpu_devices": 2}
    flags = os.environ["XLA_FLAGS"].split()
    assert flags[0] == "--xla_dump_to=here" and len(flags) == 3 and "terminate_timeout_seconds=3600" in flags[2]
    cores.share_out([128])
    assert os.environ["XLA_FLAGS"].split() == flags


def test_who_says_how_many_gets_the_patience_too(updates, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    cores.share_out([33])
    assert not updates and len(os.environ["XLA_FLAGS"].split()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", ["0", "-3"])
def test_what_is_no_number_of_devices_is_one_line(number, tmp_path):
    command = [sys.executable, "-m", "care_jax.main", "--config=configs/digits.py", f"--workdir={tmp_path / 'run'}"]
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in on_cpus().items() if name != "XLA_FLAGS"}
    environment["JAX_NUM_CPU_DEVICES"] = number
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and not (tmp_path / "run").exists()
    assert ended.stderr == (
        f"care_jax: JAX_NUM_CPU_DEVICES={number}: give a number of devices from 1 on, or leave it out\n"
    )


@pytest.mark.parametrize("place", ["several processes", "a TPU's host"])
def test_nothing_changes_where_others_say(updates, monkeypatch, place):
    monkeypatch.setattr(distributed, "is_active", lambda: place == "several processes")
    monkeypatch.setattr(accelerator, "has_tpu", lambda: place == "a TPU's host")
    before = os.environ["XLA_FLAGS"]
    cores.share_out()
    assert not updates and os.environ["XLA_FLAGS"] == before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system shares no cores out")
@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [(["2"], {}, 2), (["1"], {}, 1), (["2"], {"JAX_NUM_CPU_DEVICES": "3"}, 3), (["2", "begun"], {}, 1)],
)
def test_a_process_has_a_device_a_core(arguments, variables, expected):
    if len(os.sched_getaffinity(0)) < int(arguments[0]):
        pytest.skip("it has one core")
    environment = {name: value for name, value in on_cpus().items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", _TOLD, *arguments]
    out = subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=120)
    assert out.stdout.split() == [f"{expected}", "6"], out.stderr


def test_every_command_that_computes_shares_the_cores_out():
    root = Path(__file__).parents[2]
    sources = {
        f"{path.relative_to(root)}": path.read_text()
        for folder in ("care_jax", "experiments")
        for path in (root / folder).rglob("*.py")
    }
    computing = {path for path, text in sources.items() if re.search(r"^ +compilation_cache\.switch_on", text, re.M)}
    sharing = {path for path, text in sources.items() if re.search(r"^ +cores\.share_out", text, re.M)}
    # A sweep's runs are processes of their own; `cost` keeps no programs.
    assert computing - sharing == {"care_jax/sweep/__main__.py"} and sharing - computing == {
        "care_jax/cost/__main__.py"
    }
    assert len(computing) > 6
