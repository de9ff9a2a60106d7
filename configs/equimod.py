"""EquiMod on CIFAR10 as in its paper: ResNet-18, 800 epochs; linear probe 92.79 % there (SimCLR 90.96 %).

    python -m care_jax.main --config=configs/equimod.py --workdir=runs/equimod

Source: Devillers and Lefort, ICLR 2023, and its code's SimCLR+EquiMod. Its SimCLR: --config.equivariance.weight=0.

What still differs from that code: it crops bicubically (here: bilinearly, antialiased), begins residual branches at
zero, normalises the plain images and both views as one batch (here: each by itself), and trains in mixed precision.
Evaluation and the augmentations that equivariance is measured by are those of configs/cifar10.py, so that the numbers
compare; its own probe sees random crops, and test images enlarged to 36 pixels and cropped.
"""

import ml_collections

from care_jax.configs import cifar10


def get_config() -> ml_collections.ConfigDict:
    """LARS with its published rate, both heads with two hidden layers, all normalised."""
    config = cifar10.get_config()
    config.data.std = (0.247, 0.243, 0.261)
    views = config.augment.invariance  # the jitter, gray and flip of base.py are its own
    views.crop_scale = (0.2, 1.0)
    views.blur_probability = 0.0
    config.model.backbone = "resnet18"
    config.model.head_hidden_sizes = (2048, 2048)
    config.model.head_output_batch_norm = True
    config.equivariance.term = "equimod"
    config.equivariance.weight = 1.0
    config.optimizer.name = "lars"
    config.optimizer.learning_rate = 4.0
    config.optimizer.decay = "kernels"
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 10.0
    config.train.batch_size = 512
    config.train.epochs = 800.0
    return config
