"""What embeds whole sets can be left off between two batches."""

from unittest.mock import Mock

import jax
import numpy as np
import pytest

from care_jax.augment import AugmentSpec
from care_jax.data import Examples, SkippedFiles
from care_jax.devices import sharding
from care_jax.evaluate.embed import Embedder


def test_it_asks_before_each_batch_whether_to_go_on(monkeypatch):
    check = Mock(side_effect=[None, None, InterruptedError])
    mesh = sharding.make_mesh(jax.devices()[:1])
    embedder = Embedder(
        Mock(),
        mesh,
        AugmentSpec(size=8, mean=(0.5,) * 3, std=(0.5,) * 3),
        batch_size=2,
        skipped=SkippedFiles(),
        check=check,
    )
    made = jax.device_put(np.zeros((2, 1), np.float32), sharding.along_axis(mesh, 0))
    batches = Mock(return_value=(made, np.zeros((2, 1), np.float32), np.ones(2, bool)))
    monkeypatch.setattr(embedder, "_forward", batches)
    with pytest.raises(InterruptedError):
        embedder({}, Examples(np.zeros((7, 8, 8, 3), np.uint8), {}))
    assert batches.call_count == 2
