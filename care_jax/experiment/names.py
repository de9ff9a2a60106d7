"""The names that settings may have: those of what is registered."""

from care_jax import data, methods, models
from care_jax.augment.views import DRAWS
from care_jax.experiment.architecture import DTYPES
from care_jax.models.deep_sets import POOLINGS
from care_jax.train import optim
from care_jax.train.placements import PLACEMENTS


def choices() -> dict[str, tuple[str, ...]]:
    """What a setting of names may be, of what is registered now."""
    return {
        "data.name": tuple(data.DATA_SETS),
        "augment.placement": tuple(PLACEMENTS),
        "model.backbone": (*models.BACKBONES, *models.CLOUD_BACKBONES),
        "model.pooling": POOLINGS,
        "model.stem": ("cifar", "imagenet"),
        "model.dtype": tuple(DTYPES),
        "loss.method": tuple(methods.METHODS),
        "equivariance.term": tuple(methods.TERMS),
        "equivariance.draws": DRAWS,
        "optimizer.name": optim.OPTIMIZERS,
        "optimizer.schedule": optim.SCHEDULES,
        "optimizer.decay": optim.DECAYS,
        "evaluate.probe.optimizer": optim.OPTIMIZERS,
        "evaluate.probe.schedule": optim.SCHEDULES,
        "evaluate.finetune.optimizer": optim.OPTIMIZERS,
        "evaluate.finetune.schedule": ("constant", "cosine"),
        "evaluate.finetune.augmentation": ("crop_flip", "none"),
    }
