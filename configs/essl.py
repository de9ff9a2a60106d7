"""E-SSL on CIFAR10 as in its paper: ResNet-18, 800 epochs, which of four quarter turns a third view was given.

    python -m care_jax.main --config=configs/essl.py --workdir=runs/essl

Source: Dangovski et al., ICLR 2022, and its code's CIFAR10 set-up. Its SimCLR: --config.equivariance.weight=0 with
--config.optimizer.learning_rate=0.06.

What still differs from that code: a view's negatives are there the other views of the other images alone (here, in
NT-Xent, their views of both kinds). Evaluation and the augmentations that equivariance is measured by are those of
configs/cifar10.py, so that the numbers compare; its own probe sees random crops, and test images enlarged to 36 pixels
and cropped.
"""

import ml_collections

from care_jax.configs import cifar10


def get_config() -> ml_collections.ConfigDict:
    """SGD with its published rate, a projection head of 2,048 normalised outputs."""
    config = cifar10.get_config()
    views = config.augment.invariance  # the jitter, gray and flip of base.py are its own
    views.crop_scale = (0.2, 1.0)
    views.blur_probability = 0.0
    config.model.backbone = "resnet18"
    config.model.head_hidden_sizes = (2048,)
    config.model.head_size = 2048
    config.model.head_output_batch_norm = True
    config.equivariance.term = "essl"
    config.equivariance.weight = 0.4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.12  # 0.06 for each 256 images
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 10.0
    config.train.batch_size = 512
    config.train.epochs = 800.0
    return config
