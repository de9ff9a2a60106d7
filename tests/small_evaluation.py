"""The evaluation of a small experiment, as a program: tests start several processes of it.

    python tests/small_evaluation.py [COORDINATOR NUM_PROCESSES PROCESS_ID]

The last line is JSON: all numbers, and how many training features this process holds.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # beside an installed package: the one that is tested

import jax
import numpy as np
from conftest import make_tiny_config, small_encoder
from jax.sharding import Mesh

from care_jax.command_line import user_errors
from care_jax.data import DataSet, Examples
from care_jax.devices import distributed, sharding
from care_jax.evaluate.evaluation import Evaluation
from care_jax.experiment import build


def evaluate(mesh: Mesh) -> dict[str, Any]:
    """Of an encoder as it was drawn; 203 training and 61 test images, which no number of devices divides."""
    config = make_tiny_config(evaluate__batch_size=40, evaluate__num_augmentations=2, evaluate__knn_k=30)
    experiment = build.build(config, mesh)._replace(encoder=small_encoder())
    variables = jax.device_get(build.make_state(experiment)).variables
    train, test = (
        Examples(part.images[:count], {name: labels[:count] for name, labels in part.labels.items()})
        for part, count in ((experiment.dataset.train, 203), (experiment.dataset.test, 61))
    )
    few = DataSet("few digits", train, train, test, experiment.dataset.num_classes)
    evaluation = Evaluation(experiment._replace(dataset=few))
    numbers = evaluation.measure(0, variables).numbers
    features = evaluation.embedded(0, variables).part("train").features
    held = sum(len(shard.data) for shard in features.array.addressable_shards)
    return numbers | {"held": held, "features": float(np.abs(features.numpy()).sum(dtype=np.float64))}


if __name__ == "__main__":
    with user_errors():
        if len(sys.argv) > 1:
            distributed.start(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        print(json.dumps(evaluate(sharding.make_mesh())))
