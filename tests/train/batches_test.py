"""A step can be compiled for batches that are described: the description is what `stacked_batches` yields."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from care_jax import data
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.train.batches import abstract_batches


class _Noise:
    """Encoded images of several sizes, from memory."""

    def __init__(self, images):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> bytes:
        return self._images[index]

    def name(self, index: int) -> str:
        return f"image {index}"


def _encoded() -> _Noise:
    files = []
    for side in range(20, 60):
        file = io.BytesIO()
        Image.fromarray(np.full((side, side + 3, 3), side, np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return _Noise(files)


@pytest.mark.parametrize("shared", [None, 16, 0])
@pytest.mark.parametrize(
    ("placement", "resident"),
    [
        ("device", True),
        *(pytest.param(name, of, marks=pytest.mark.slow) for name in ("host", "decode") for of in (True, False)),
    ],
)
def test_batches_are_as_they_are_described(tiny_config, placement, resident, shared):
    config = tiny_config(
        augment__placement=placement, augment__equivariance__crop="center", augment__equivariance__center_fraction=0.8
    )
    if shared == 0:
        config.equivariance.weight = 0.0
    else:
        config.equivariance.batch_size = shared
    images = np.zeros((40, 24, 24, 3), np.uint8) if resident else _encoded()
    examples = data.Examples(images)
    dataset = data.DataSet("noise", examples, examples, examples, {})
    mesh = sharding.make_mesh(jax.devices()[:8])
    experiment = build.build(config, mesh, dataset)
    (real,) = build.make_stacked_batches(experiment, 0, [2])
    described = abstract_batches(
        experiment.plan,
        mesh,
        placement=placement,
        num_examples=len(examples),
        image_shape=(24, 24, 3) if resident else None,
        count=2,
    )
    assert jax.tree.structure(real) == jax.tree.structure(described)  # names, and the size of resident images
    for array, struct in zip(jax.tree.leaves(real), jax.tree.leaves(described), strict=True):
        assert (array.shape, array.dtype) == (struct.shape, struct.dtype)
        assert array.sharding.is_equivalent_to(struct.sharding, array.ndim)
