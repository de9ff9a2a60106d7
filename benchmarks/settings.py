"""What every side of a comparison is given: the values of configs/base.py, written out.

Not read from there, because configurations need `ml_collections`, and `benchmarks.peer` should run wherever JAX and
PyTorch do. `tests/benchmarks/settings_test.py` holds the two together.
"""

import os
from typing import Any, NamedTuple

from care_jax.augment import AugmentSpec

IMAGE_SIZE = 32  # pixels a side
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
AUGMENTATION: dict[str, Any] = AugmentSpec.settings() | {
    "flip_probability": 0.5,
    "jitter_probability": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grayscale_probability": 0.2,
    "blur_probability": 0.5,
}
SEED = 0
STEM = "cifar"
WIDTH = 64  # channels of the first stage
HEAD_HIDDEN_SIZES = (512,)
HEAD_SIZE = 128
TEMPERATURE = 0.5
EQUIVARIANCE_WEIGHT = 0.01
NUM_GROUPS = 16
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-6
NUM_VIEWS = 4  # two for the contrastive loss, two for the equivariance loss

STAGE_SIZES = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
BOTTLENECK = {"resnet18": False, "resnet50": True}


class Case(NamedTuple):
    """One row of the comparison: who steps, on what.

    Attributes:
      kind: "ours", "official" (PyTorch as the official code goes about it), "tuned_one" or "tuned_four" (PyTorch made
        fast, all views in one forward pass or in four), or "ceilings" (no model: the machine's own rates).
      model: "resnet18" or "resnet50".
      dtype: of the computation, "float32" or "bfloat16".
      batch_size: b, images a step.
      width: channels of the first stage.
      num_images: resident images, noise.
    """

    kind: str
    model: str = "resnet50"
    dtype: str = "float32"
    batch_size: int = 32
    width: int = WIDTH
    num_images: int = 4096


def available_cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
