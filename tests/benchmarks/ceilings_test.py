"""Operations and bytes against counts by hand and against the encoder that is timed."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ceilings
from benchmarks.ceilings import Work
from benchmarks.ours import make_encoder
from benchmarks.settings import Case
from care_jax.cost import measured


def test_a_bottleneck_block_by_hand():
    # 8x8 pixels of 4 channels -> 1x1 to 2 at 8x8, 3x3 stride 2 to 2 at 4x4, 1x1 to 8 at 4x4; shortcut 1x1 stride 2.
    layers, side, channels = ceilings.block(8, 4, 2, 2, bottleneck=True)
    assert (side, channels) == (4, 8)
    counted = ceilings.work(layers, batch_size=5, num_views=2, dtype="bfloat16")
    forward = [2 * 4 * 128, 2 * 18 * 32, 2 * 2 * 128, 2 * 4 * 128]
    # The first layer of a network has no use for its input's gradient.
    assert counted.operations == 5 * 2 * (2 * forward[0] + 3 * sum(forward[1:]))
    inputs, outputs = [256, 128, 32, 256], [128, 32, 128, 128]
    # Convolution: x, y; dy, x, dx. Batch norm: x, x, y; dy, x, dx.
    elements = 3 * sum(inputs) - inputs[0] + 2 * sum(outputs) + 6 * sum(outputs)
    kernels = 4 * 2 + 9 * 2 * 2 + 2 * 8 + 4 * 8
    parameters = kernels + 2 * (2 + 2 + 8 + 8)
    assert counted.bytes == 2 * (5 * 2 * elements + 3 * kernels) + 7 * 4 * parameters


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_every_kernel_of_the_encoder_is_counted(model):
    encoder = make_encoder(Case("ours", model, width=4))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
    kernels = [leaf.size for leaf in jax.tree.leaves(shapes["params"]) if leaf.ndim > 1]
    assert sorted(layer.kernel for layer in ceilings.encoder_layers(model, 4)) == sorted(kernels)


def test_resnet50_of_the_paper():
    work = ceilings.step_work(Case("ours", "resnet50", "bfloat16", 256))
    assert work.operations / 256 == pytest.approx(31e9, rel=0.01)
    assert work.bytes / 256 == pytest.approx(300e6, rel=0.03)


def test_the_floor_is_the_slower_of_the_two():
    work = Work(operations=6.0, bytes=8.0)
    assert ceilings.floor_seconds(work, operations_per_second=2.0, bytes_per_second=4.0) == 3.0
    assert ceilings.floor_seconds(work, operations_per_second=3.0, bytes_per_second=2.0) == 4.0


def test_measured_rates_are_positive():
    assert measured.measure_matmul("float32", 64, 2) > 0
    assert measured.measure_copy(2**16, 2) > 0
