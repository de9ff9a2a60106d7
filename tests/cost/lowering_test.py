"""The step of every configuration, at its full size, is lowered for TPUs and for GPUs, neither of which is there."""

import importlib
from pathlib import Path

import jax
import pytest

from care_jax.devices import sharding
from care_jax.experiment import build, choice, programs, stand_in
from care_jax.experiment.settings import of_clouds
from care_jax.train.placements import PLACEMENTS

# cifar100.py has the step of cifar10.py, with other constants.
CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("[!_]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("__init__", "base", "cifar100")])
def test_a_configuration_is_lowered_for_tpus_and_gpus(name, monkeypatch):
    made: list = []
    for placement, make in list(PLACEMENTS.items()):
        monkeypatch.setitem(PLACEMENTS, placement, lambda *of, make=make: made.append(make(*of)) or made[-1])
    config = importlib.import_module(f"care_jax.configs.{name}").get_config()
    images = stand_in.images(config, 10_000 if name in ("image_folder", "proteins") else None)
    config.data.root = "not_read"
    mesh = sharding.make_mesh(jax.devices()[:8])
    config = choice.filled(config, choice.choose(config, mesh, len(images)))
    experiment = build.build(config, mesh, stand_in.dataset(name, images))
    arguments = programs.arguments(experiment, stand_in.image_shape(config))
    exported = jax.export.export(programs.step(experiment), platforms=["tpu", "cuda"])(*arguments)
    assert exported.platforms == ("tpu", "cuda") and exported.nr_devices == 8
    before, after = jax.tree.unflatten(exported.in_tree, exported.in_avals), exported.out_avals
    state, metrics = jax.tree.unflatten(exported.out_tree, after)
    assert [leaf.str_short() for leaf in jax.tree.leaves(state)] == [
        leaf.str_short() for leaf in jax.tree.leaves(before[0][0])
    ]
    of_term = {"equimod": {"equimod"}, "essl": {"rotation"}, "augself": {"crop", "color"}}
    assert {"loss", "info_nce"} | of_term.get(config.equivariance.term, {"equivariance"}) <= metrics.keys()
    views, shared, *_ = made[0]
    clouds = of_clouds(config)
    one = stand_in.image_shape(config) if clouds else (config.data.image_size, config.data.image_size, 3)
    assert views.shape == (2, config.train.batch_size, *one)
    if config.equivariance.term == "care":
        assert shared.shape == (2, experiment.plan.equivariance_batch_size, *one)
    else:
        assert shared is None
    assert not any(str(aval.dtype) == "float64" for aval in (*exported.in_avals, *exported.out_avals))
    assert "callback" not in exported.mlir_module()
