"""The settings that the benchmarks write out are those of configs/base.py."""

import ml_collections

from benchmarks import settings
from benchmarks.ours import make_encoder, make_plan
from benchmarks.settings import Case
from care_jax.configs import base
from care_jax.experiment import build


def test_written_out_settings_are_the_configurations():
    config = base.get_config()
    flat = {
        "seed": settings.SEED,
        "data.image_size": settings.IMAGE_SIZE,
        "data.mean": settings.MEAN,
        "data.std": settings.STD,
        "model.stem": settings.STEM,
        "model.width": settings.WIDTH,
        "model.head_hidden_sizes": settings.HEAD_HIDDEN_SIZES,
        "model.head_size": settings.HEAD_SIZE,
        "model.head_batch_norm": True,
        "model.remat": False,
        "loss.method": "simclr",
        "loss.temperature": settings.TEMPERATURE,
        "equivariance.weight": settings.EQUIVARIANCE_WEIGHT,
        "equivariance.num_groups": settings.NUM_GROUPS,
        "equivariance.batch_size": None,
        "equivariance.draws": "group",
        "optimizer.name": "adam",
        "optimizer.schedule": "constant",
        "optimizer.decay": "all",
        "optimizer.learning_rate": settings.LEARNING_RATE,
        "optimizer.weight_decay": settings.WEIGHT_DECAY,
        "augment.placement": "device",
    }
    for name, value in flat.items():
        expected = config
        for part in name.split("."):
            expected = expected[part]
        assert value == expected, name
    for branch in (config.augment.invariance, config.augment.equivariance):
        assert branch.to_dict() == ml_collections.ConfigDict(settings.AUGMENTATION).to_dict()


def test_the_pieces_are_those_that_build_makes():
    config = base.get_config()
    config.model.dtype = "bfloat16"
    case = Case("ours", "resnet50", "bfloat16", config.train.batch_size)
    assert make_encoder(case) == build.make_encoder(config)
    plan = make_plan(case)
    for branch in ("invariance", "equivariance"):
        assert getattr(plan, branch) == build.augment_spec(config, branch)
