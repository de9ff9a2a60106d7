"""`python -m care_jax.cost` from its flags to its text, its file and its status; compiling is left out here."""

import copy
import json
from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
from absl import flags

from care_jax.command_line import UsageError
from care_jax.cost import estimate, hardware
from care_jax.errors import UserError
from care_jax.experiment import build, stand_in
from care_jax.export import files
from care_jax.models import BACKBONES, Encoder, ProjectionHead
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
    assert cost("--topology=cpu:1", "--json=-") == 0
    assert json.loads(capsys.readouterr().out)["memory"]["peak"] == 128 * 2**21


def test_a_step_that_does_not_fit_or_compile_is_status_1(cost, asked, capsys):
    assert cost("--topology=cpu:1", "--config.train.batch_size=1280") == 1
    assert "it DOES NOT FIT" in capsys.readouterr().out
    images = "--num_examples=10000"
    assert cost("--topology=cpu:1", images, "--config.train.batch_size=4096") == 1
    assert "compiles      no, in 614 s\nreason        RESOURCE_EXHAUSTED" in capsys.readouterr().out


def test_the_largest_batch(cost, asked, tmp_path, monkeypatch, capsys):
    file, memory = tmp_path / "cost.json", 1000 * 2**21
    monkeypatch.setattr(hardware, "of_device", lambda device, count: hardware.Hardware(None, None, memory))
    assert cost("--topology=cpu:1", "--suggest", f"--json={file}", "--num_examples=100000") == 0
    found = json.loads(file.read_text())
    assert 1000 - 1000 // 16 <= found["suggestion"] <= 1000 and found["suggestion"] % 8 == 0
    assert found["batch_size"] == found["suggestion"] and found["memory"]["peak"] <= memory
    assert [one["batch_size"] for one in found["tried"]] == [batch for batch, *_ in asked]
    out, err = capsys.readouterr()
    assert f"suggestion    --config.train.batch_size={found['suggestion']} " in out
    assert err.count("peak") == len(asked)
    with pytest.raises(UsageError, match="how much memory a cpu has is not known"):
        monkeypatch.setattr(hardware, "of_device", lambda device, count: hardware.of_kind("other"))
        cost("--topology=cpu:1", "--suggest")


def test_what_is_refused_for_another_reason_ends_the_search(cost, asked, monkeypatch):
    monkeypatch.setattr(estimate, "estimate", lambda *_, **__: {**FOUND, "compiles": False, "reason": "INTERNAL: no"})
    with pytest.raises(UsageError, match="batch 128 does not compile, and not for want of memory: INTERNAL: no"):
        cost("--topology=cpu:1", "--suggest")


def test_every_batch_that_is_tried_for_a_plain_baseline_is_one_that_runs(cost, monkeypatch, capsys):
    """The real check of groups, without compiling."""
    batches = []

    def fake(config, mesh, images, device, *, effort):
        build.build(config, mesh, stand_in.dataset(config.data.name, images))
        batches.append(config.train.batch_size)
        found = {name: value for name, value in copy.deepcopy(FOUND).items() if name != "topology"}
        found["memory"] |= {"peak": batches[-1] * 2**21, "available": 1227 * 2**21}
        return found

    monkeypatch.setattr(estimate, "estimate", fake)
    monkeypatch.setattr(hardware, "of_device", lambda *_: hardware.Hardware(None, None, 1227 * 2**21))
    assert cost("--topology=cpu:2", "--suggest", "--num_examples=9999", "--config.equivariance.weight=0") == 0
    assert max(batches) > 1100 and not any(batch % 8 for batch in batches)


def test_the_network_is_that_of_a_pretrained_file(cost, monkeypatch, tmp_path, capsys):
    shapes = jax.eval_shape(
        Encoder(BACKBONES["resnet10"](stem="imagenet", width=4), ProjectionHead((3,), 2)).init,
        *(jax.random.key(0), jax.ShapeDtypeStruct((1, 16, 16, 3), jax.numpy.float32)),
    )
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    run = {"backbone": "resnet10", "stem": "imagenet", "width": 4}
    files.write(tmp_path / "x", "flax", variables, head=False, preprocessing={}, run=run)
    widths = []

    def fake(config, *_, **__):
        widths.append(config.model.width)
        return copy.deepcopy(FOUND)

    monkeypatch.setattr(estimate, "estimate", fake)
    own = ("--topology=cpu:1", "--config.model.backbone=resnet10", "--config.model.stem=imagenet")
    assert cost(*own, "--config.model.width=None", f"--config.model.init_from={tmp_path / 'x'}") == 0
    assert widths == [4]
    assert f"chosen for config.model.init_from={tmp_path / 'x'}: --config.model.width=4" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^config.model.init_from=gone.pth can't be read: No such file or directory$"):
        cost(*own, "--config.model.width=None", "--config.model.init_from=gone.pth")
    assert cost(*own, "--config.model.init_from=gone.pth") == 0  # which may lie where the run is to be


def test_an_online_probe_is_said_not_to_be_counted(cost, asked, capsys):
    assert cost("--topology=cpu:1") == 0
    assert "online_probe" not in capsys.readouterr().out
    assert cost("--topology=cpu:1", "--config.evaluate.online_probe=True") == 0
    assert "evaluate.online_probe: the classifier that it trains beside is not counted" in capsys.readouterr().out


def test_an_incomplete_configuration_is_one_line(cost, tmp_path):
    file = tmp_path / "bare.py"
    file.write_text("import ml_collections\ndef get_config(): return ml_collections.ConfigDict({'seed': 0})\n")
    with pytest.raises(UserError, match=r"^config\.\w+.* is missing; start from configs/base.py, which has them all$"):
        cost("--topology=cpu:1", f"--config={file}")
