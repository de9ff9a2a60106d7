"""ImageNet (1,000 classes): ResNet-50 at 224 in bfloat16, for a pod or several GPUs.

    python -m care_jax.main --config=configs/imagenet.py --workdir=runs/imagenet

Not a setting of the paper, which stops at ImageNet100: SimCLR's recipe (LARS, 0.3 * batch / 256, cosine, tau 0.1) with
CARE's equivariance branch of ImageNet100. lambda has not been tuned at this scale.
"""

import ml_collections

from configs import imagenet100


def get_config() -> ml_collections.ConfigDict:
    """imagenet100.py with all the classes and SimCLR's large-batch optimiser."""
    config = imagenet100.get_config()
    config.augment.invariance.crop_scale = (0.08, 1.0)
    config.augment.invariance.blur_kernel_size = 23  # a tenth of the side, as SimCLR
    config.augment.invariance.brightness = 0.8
    config.augment.invariance.contrast = 0.8
    config.augment.invariance.saturation = 0.8
    config.augment.invariance.hue = 0.2
    config.model.dtype = "bfloat16"
    config.loss.temperature = 0.1
    config.equivariance.num_groups = 16
    config.equivariance.batch_size = 512
    config.optimizer.name = "lars"
    config.optimizer.learning_rate = 4.8
    config.optimizer.weight_decay = 1e-6
    config.optimizer.decay = "kernels"
    config.optimizer.warmup_epochs = 10.0
    config.train.batch_size = 4096
    config.train.epochs = 100.0
    config.evaluate.knn_temperature = 0.1
    return config
