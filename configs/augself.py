"""AugSelf on STL10 at 96x96 as in its paper: ResNet-18 on train + unlabelled, 200 epochs, crop and colour differences.

    python -m care_jax.main --config=configs/augself.py --workdir=runs/augself

Source: Lee et al., NeurIPS 2021, and its code with --framework=simclr. Its SimCLR: --config.equivariance.weight=0.

What still differs: the paper's own base on STL10 is SimSiam, which is no method here. From the code: it begins residual
branches at zero and draws convolutions from PyTorch's default, its heads normalise both orders of a pair together
(here: each by itself), and the learning rate falls once an epoch (here: every step). Evaluation and the augmentations
that equivariance is measured by are those of configs/stl10.py, at 96 x 96 pixels; the paper probes other data sets.
"""

import ml_collections

from care_jax.configs import stl10


def get_config() -> ml_collections.ConfigDict:
    """Images as large as they are, SGD with its published rate and without warm-up."""
    config = stl10.get_config()
    config.data.image_size = 96
    config.data.mean = (0.43, 0.42, 0.39)
    config.data.std = (0.27, 0.26, 0.27)
    views = config.augment.invariance  # the jitter, gray and flip of base.py are its own, and so is how often it blurs
    views.crop_scale = (0.2, 1.0)
    views.blur_kernel_size = 9
    config.model.backbone = "resnet18"
    config.model.stem = "imagenet"
    config.loss.temperature = 0.2
    config.equivariance.term = "augself"
    config.equivariance.weight = 1.0
    config.optimizer.learning_rate = 0.03
    config.optimizer.warmup_epochs = 0.0
    config.train.epochs = 200.0
    return config
