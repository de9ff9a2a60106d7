"""CIFAR100 as in the paper: ResNet-50, 400 epochs; linear probe 68.05 % (SimCLR 66.77 %).

python -m care_jax.main --config=configs/cifar100.py --workdir=runs/cifar100
"""

import ml_collections

from care_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Four groups and a smaller lambda than CIFAR10's."""
    config = base.get_config()
    config.data.name = "cifar100"
    config.data.mean = (0.5071, 0.4867, 0.4408)
    config.data.std = (0.2675, 0.2565, 0.2761)
    config.equivariance.num_groups = 4
    config.equivariance.weight = 0.001
    return config
