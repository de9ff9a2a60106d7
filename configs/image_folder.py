"""Your own images: a folder of JPEG, PNG, WebP, GIF, BMP or TIFF files, flat or with a subfolder a class.

    python -m care_jax.main --config=configs/image_folder.py --config.data.root=my_images --workdir=runs/mine

Without class subfolders there are no labels: the probes and the k-nearest-neighbour monitor are switched off.

What has no value here (None) is chosen when the run begins, for the number of images and the kind of device: for an
hour on two CPU cores or minutes on a GPU, in less than 8 GiB. It is printed, and kept in the run's config.json. Give it
a value as any other setting, --config.train.epochs=400.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from care_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """ResNet-18 on 64x64 images kept on the device; for large images use augment.placement = "decode"."""
    config = base.get_config()
    config.data.name = "image_folder"
    config.data.image_size = 64
    config.data.mean = placeholder(tuple)
    config.data.std = placeholder(tuple)
    config.model.backbone = "resnet18"
    config.model.stem = "imagenet"
    config.model.width = placeholder(int)
    config.train.batch_size = placeholder(int)
    config.train.epochs = placeholder(float)
    config.equivariance.num_groups = placeholder(int)
    config.evaluate.knn_k = 20
    return config
