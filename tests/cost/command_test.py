"""`python -m care_jax.cost` from its flags to its text, its file and its status; compiling is left out here."""

import copy
import json
from collections.abc import Callable, Iterator

import pytest
from absl import flags

from care_jax.command_line import UsageError
from care_jax.cost import estimate, hardware
from tests.cost.report_test import FOUND


@pytest.fixture(scope="module")
def cost() -> Iterator[Callable[..., int]]:
    """`cost(*flags)`: its status; the flags don't stay behind."""
    before = set(flags.FLAGS)
    from care_jax.cost import __main__ as command

    own = set(flags.FLAGS) - before

    def run(*arguments: str) -> int:
        argv = ["cost", "--config=digits", *arguments]
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("sys.argv", argv)  # where ml_collections looks for settings
                command.parse(argv)
            return command._cost(flags.FLAGS.config)
        finally:
            for name in set(flags.FLAGS) - before - own:
                delattr(flags.FLAGS, name)
            for name in ("json", "num_examples", "peak_flops", "bandwidth"):
                flags.FLAGS[name].unparse()
            flags.FLAGS["suggest"].value, flags.FLAGS["effort"].value = False, 0.0

    yield run
    for name in own:
        delattr(flags.FLAGS, name)


@pytest.fixture
def asked(monkeypatch) -> list:
    """What is estimated, and with what; a device that holds 2 MiB an image up to 1,000 images, and then none."""
    asked = []

    def fake(config, mesh, images, device, *, effort):
        batch = config.train.batch_size
        asked.append((batch, mesh.size, len(images), device, effort))
        found = {name: value for name, value in copy.deepcopy(FOUND).items() if name != "topology"}
        found["memory"] |= {"peak": batch * 2**21, "available": 1000 * 2**21}
        if batch > 2000:
            found |= {"compiles": False, "reason": "RESOURCE_EXHAUSTED: (4.10G) exceeds available HBM"}
        return found | {"batch_size": batch}

    monkeypatch.setattr(estimate, "estimate", fake)
    return asked


def test_flags_reach_the_estimate_and_figures_the_file(cost, asked, tmp_path, capsys):
    file = tmp_path / "cost.json"
    flags = f"--json={file}", "--effort=-0.5", "--num_examples=999", "--peak_flops=2e12", "--bandwidth=3e10"
    assert cost("--topology=cpu:2", *flags, "--config.train.batch_size=64") == 0
    ((batch, devices, images, device, effort),) = asked
    assert (batch, devices, images, effort) == (64, 2, 999, -0.5)
    assert device.operations == {"": 2e12} and device.bandwidth == 3e10
    found = json.loads(file.read_text())
    assert found["topology"] == "cpu:2" and found["batch_size"] == 64
    out, err = capsys.readouterr()
    assert out.startswith("topology      cpu:2: ") and err == "care_jax: compiling for cpu:2, batch 64 ...\n"


def test_json_in_place_of_the_text(cost, asked, capsys):
    assert cost("--topology=cpu", "--json=-") == 0
    assert json.loads(capsys.readouterr().out)["memory"]["peak"] == 128 * 2**21


def test_a_step_that_does_not_fit_or_compile_is_status_1(cost, asked, capsys):
    assert cost("--topology=cpu", "--config.train.batch_size=1280") == 1
    assert "it DOES NOT FIT" in capsys.readouterr().out
    images = "--num_examples=10000"
    assert cost("--topology=cpu", images, "--config.train.batch_size=4096") == 1
    assert "compiles      no, in 614 s\nreason        RESOURCE_EXHAUSTED" in capsys.readouterr().out


def test_the_largest_batch(cost, asked, tmp_path, monkeypatch, capsys):
    file, memory = tmp_path / "cost.json", 1000 * 2**21
    monkeypatch.setattr(hardware, "of_device", lambda device, count: hardware.Hardware(None, None, memory))
    assert cost("--topology=cpu", "--suggest", f"--json={file}", "--num_examples=100000") == 0
    found = json.loads(file.read_text())
    assert 1000 - 1000 // 16 <= found["suggestion"] <= 1000 and found["suggestion"] % 8 == 0
    assert found["batch_size"] == found["suggestion"] and found["memory"]["peak"] <= memory
    assert [one["batch_size"] for one in found["tried"]] == [batch for batch, *_ in asked]
    out, err = capsys.readouterr()
    assert f"suggestion    --config.train.batch_size={found['suggestion']} " in out
    assert err.count("peak") == len(asked)
    with pytest.raises(UsageError, match="how much memory a cpu has is not known"):
        monkeypatch.setattr(hardware, "of_device", lambda device, count: hardware.of_kind("other"))
        cost("--topology=cpu", "--suggest")


def test_what_is_refused_for_another_reason_ends_the_search(cost, asked, monkeypatch):
    monkeypatch.setattr(estimate, "estimate", lambda *_, **__: {**FOUND, "compiles": False, "reason": "INTERNAL: no"})
    with pytest.raises(UsageError, match="batch 128 does not compile, and not for want of memory: INTERNAL: no"):
        cost("--topology=cpu", "--suggest")
