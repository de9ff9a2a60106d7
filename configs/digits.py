"""CARE on scikit-learn's 1,797 handwritten digits, tinted with drawn hues: the first run on a laptop.

Two to three minutes on two CPU cores. There one rotation explains 83 ± 3 % of what an augmentation does (SimCLR:
1 ± 8 %); linear probe of the digits 91.3 ± 3.1 % (96.3 ± 1.0 %), of the hues 82.9 ± 2.2 % (32.8 ± 8.5 %). Three seeds
each: "Two cores a run" in docs/results.md.

python -m care_jax.main --config=configs/digits.py --workdir=runs/digits
"""

import ml_collections

from care_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """A narrow ResNet-18 on 32x32 images, two to three minutes on two CPU cores."""
    config = base.get_config()
    config.data.name = "digits"
    config.data.mean = (0.152, 0.139, 0.152)
    config.data.std = (0.196, 0.166, 0.207)
    for branch in (config.augment.invariance, config.augment.equivariance):
        branch.crop_scale = (0.3, 1.0)  # a smaller part of a digit is no digit
        branch.flip_probability = 0.0  # nor is a mirrored one
    shared = config.augment.equivariance  # the hue turns through the whole circle; crops and gray, which take away what
    shared.crop = "center"  # a rotation of the embeddings would have to keep, are left to the other branch
    shared.hue = 0.5
    shared.jitter_probability = 1.0
    shared.grayscale_probability = 0.0
    config.model.backbone = "resnet18"
    config.model.stem = "imagenet"
    config.model.width = 16
    config.model.head_hidden_sizes = (128,)
    config.model.head_size = 64
    config.equivariance.num_groups = 8
    config.equivariance.weight = 0.1
    config.train.batch_size = 128
    config.train.num_steps = 600
    config.train.steps_per_call = 10  # on a CPU every call asks the system for its memory anew
    config.train.evaluate_every_epochs = 20.0
    config.evaluate.knn_k = 20
    return config
