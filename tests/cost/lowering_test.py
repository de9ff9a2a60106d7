"""The step of every configuration, at its full size, is lowered for TPUs and for GPUs, neither of which is there."""

import importlib
from pathlib import Path

import jax
import pytest

from care_jax.devices import sharding
from care_jax.experiment import build, choice, programs, stand_in

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("__init__", "base")])
def test_a_configuration_is_lowered_for_tpus_and_gpus(name):
    config = importlib.import_module(f"care_jax.configs.{name}").get_config()
    images = stand_in.images(config, 10_000 if name == "image_folder" else None)
    config.data.root = "not_read"
    mesh = sharding.make_mesh(jax.devices()[:8])
    config = choice.filled(config, choice.choose(config, mesh, len(images)))
    experiment = build.build(config, mesh, stand_in.dataset(name, images))
    arguments = programs.arguments(experiment, stand_in.image_shape(config))
    exported = jax.export.export(programs.step(experiment), platforms=["tpu", "cuda"])(*arguments)
    assert exported.platforms == ("tpu", "cuda") and exported.nr_devices == 8
    assert not any(str(aval.dtype) == "float64" for aval in (*exported.in_avals, *exported.out_avals))
    assert "callback" not in exported.mlir_module()
