"""Your own images: a folder of JPEG, PNG, WebP, GIF, BMP or TIFF files, flat or with a subfolder a class.

    python -m care_jax.main --config=configs/image_folder.py --config.data.root=my_images --workdir=runs/mine

Without class subfolders there are no labels: the probes and the k-nearest-neighbour monitor are switched off.
"""

import ml_collections

from care_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """ResNet-18 on 64x64 images kept on the device; for large images use augment.placement = "decode"."""
    config = base.get_config()
    config.data.name = "image_folder"
    config.data.image_size = 64
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.model.backbone = "resnet18"
    config.train.epochs = 200.0
    config.equivariance.num_groups = 8
    config.evaluate.knn_k = 20
    return config
