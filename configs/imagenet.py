"""ImageNet (1,000 classes): ResNet-50 at 224 in bfloat16, for a pod or several GPUs.

    python -m care_jax.main --config=configs/imagenet.py --workdir=runs/imagenet

Not a setting of the paper, which stops at ImageNet100: SimCLR's recipe (LARS, 0.3 * batch / 256, cosine, tau 0.1) with
CARE's equivariance branch of ImageNet100. lambda has not been tuned at this scale.
"""

import ml_collections

from care_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """SimCLR's large-batch recipe; equivariance on a part of the batch, as the official ImageNet100 code does."""
    config = base.get_config()
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.augment.placement = "decode"
    config.augment.invariance.brightness = 0.8
    config.augment.invariance.contrast = 0.8
    config.augment.invariance.saturation = 0.8
    config.augment.invariance.hue = 0.2
    config.augment.invariance.blur_kernel_size = 23  # a tenth of the side, as SimCLR
    config.augment.equivariance.blur_kernel_size = 5
    config.augment.equivariance.crop = "center"
    config.augment.equivariance.center_fraction = 224 / 256
    config.model.stem = "imagenet"
    config.model.dtype = "bfloat16"
    config.model.head_hidden_sizes = (2048,)
    config.model.head_batch_norm = False
    config.loss.temperature = 0.1
    config.equivariance.num_groups = 16
    config.equivariance.weight = 0.005
    config.equivariance.batch_size = 512
    config.optimizer.name = "lars"
    config.optimizer.learning_rate = 4.8
    config.optimizer.decay = "kernels"
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 10.0
    config.train.batch_size = 4096
    config.train.epochs = 100.0
    config.evaluate.center_fraction = 224 / 256
    config.evaluate.knn_temperature = 0.1
    config.evaluate.probe.optimizer = "sgd"
    config.evaluate.probe.learning_rate = 30.0
    config.evaluate.probe.weight_decay = 0.0
    config.evaluate.probe.batch_size = 4096
    config.evaluate.probe.epochs = 60
    config.evaluate.probe.schedule = "step"
    return config
