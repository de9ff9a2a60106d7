"""CARE on protein chains as clouds of points, turned in space: a rotation that embeddings can follow exactly.

The structures are those that a package ships, `pip install 'care_jax[proteins]'`; or name a folder of PDB and mmCIF
files, --config.data.root=my_structures. One rotation explains 92 ± 5 % of what a turn does (SimCLR 67 ± 2 %), and a
linear regression tells the first principal component to 5.1 ± 0.4 degrees (9.8 ± 0.5): docs/clouds.md.

python -m care_jax.main --config=configs/proteins.py --workdir=runs/proteins
"""

import ml_collections

from care_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """A Deep Set with 16-dimensional embeddings, as the paper's; two minutes on two CPU cores."""
    config = base.for_clouds()
    # Where the contrastive views are turned too, as the paper's are, InfoNCE makes embeddings that no turn moves.
    config.augment.invariance.jitter = 0.05
    config.augment.invariance.dropping = 0.2
    config.augment.equivariance.rotation = True
    config.model.pooling = "sum"  # one rotation explains 98 % then, with "mean" 78 % after as many steps (one seed)
    config.model.width = 64
    config.model.head_hidden_sizes = (128,)
    config.model.head_size = 16
    config.equivariance.num_groups = 8
    config.equivariance.weight = 1.0
    config.train.batch_size = 128
    config.train.num_steps = 600
    config.train.steps_per_call = 10
    config.train.evaluate_every_epochs = 20.0
    return config
