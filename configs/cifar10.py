"""CIFAR10 as in the paper: ResNet-50, 400 epochs; linear probe 91.92 % (SimCLR 90.98 %).

    python -m care_jax.main --config=configs/cifar10.py --workdir=runs/cifar10

SimCLR: --config.equivariance.weight=0. Prepare the data with `tfds build cifar10`, or add --config.data.download=True.
"""

import ml_collections

from care_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """base.py holds the paper's values for this data set."""
    return base.get_config()
