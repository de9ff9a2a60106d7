"""What a machine can do at most, and the least that one step asks of it.

The counting rule, an image and a view, with x the elements that an operation reads and y those it writes, in the
computation's type (2 bytes for bfloat16, 4 for float32):

* A convolution or linear layer: forward 2 k^2 c y operations (c channels in, kernel side k); it reads x and the kernel
  and writes y. Backward twice the operations, one product for the input's gradient and one for the kernel's; it reads
  y's gradient, x and the kernel once, and writes x's gradient and the kernel's. The first layer needs no gradient of
  its input.
* A batch norm: forward reads its input twice (the statistics must be known before the first output is) and writes
  once; backward reads the output's gradient and the input once each and writes the input's gradient. Its two sums over
  the batch are taken to be made along with that gradient. Operations are not counted.
* ReLU, the residual sums, pooling, losses and augmentation are taken to be free, fused into their neighbours.
* Adam reads parameter, gradient and two moments and writes all but the gradient: 7 float32 numbers a parameter a step.
  Kernels are read and written once a step, not once an image.

So it is a lower bound for kernels that each start from memory, the way frameworks run a ResNet today; only fusing batch
norm into convolutions could go below it. ResNet-50 with the CIFAR stem, four views, bfloat16: 31 GFLOP and about
300 MB an image.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import settings
from benchmarks.settings import Case
from care_jax.cost import measured

BYTES = {"float32": 4, "bfloat16": 2}


class Layer(NamedTuple):
    """A convolution (a linear layer: on one position) and whether a batch norm follows.

    Attributes:
      inputs: elements read, of one image.
      outputs: elements written.
      kernel: elements of the kernel.
      channels_read: products that one output element sums, k^2 c.
      batch_norm: normalised afterwards.
    """

    inputs: int
    outputs: int
    kernel: int
    channels_read: int
    batch_norm: bool


class Work(NamedTuple):
    """Of one step.

    Attributes:
      operations: floating-point operations of the matrix products, a multiplication and an addition being two.
      bytes: that have to move between the device's memory and its processors.
    """

    operations: float
    bytes: float


def convolution(side: int, channels: int, features: int, kernel: int, stride: int) -> tuple[Layer, int]:
    """A layer on a square of `side` pixels, and the side of its output."""
    out = (side - 1) // stride + 1
    return Layer(
        inputs=side * side * channels,
        outputs=out * out * features,
        kernel=kernel * kernel * channels * features,
        channels_read=kernel * kernel * channels,
        batch_norm=True,
    ), out


def block(side: int, channels: int, features: int, stride: int, bottleneck: bool) -> tuple[list[Layer], int, int]:
    """The layers of a residual block, the side of its output and its channels."""
    out_features = features * 4 if bottleneck else features
    plan = (
        [(features, 1, 1), (features, 3, stride), (out_features, 1, 1)]
        if bottleneck
        else [(features, 3, stride), (features, 3, 1)]
    )
    layers, at, c = [], side, channels
    for out_channels, kernel, step in plan:
        layer, at = convolution(at, c, out_channels, kernel, step)
        layers.append(layer)
        c = out_channels
    if stride != 1 or channels != out_features:
        layers.append(convolution(side, channels, out_features, 1, stride)[0])
    return layers, at, out_features


def encoder_layers(model: str, width: int) -> Iterator[Layer]:
    """Every convolution and linear layer of a ResNet with the CIFAR stem and its projection head, first to last."""
    layer, side = convolution(settings.IMAGE_SIZE, 3, width, 3, 1)
    yield layer
    channels = width
    for stage, size in enumerate(settings.STAGE_SIZES[model]):
        for index in range(size):
            stride = 2 if stage > 0 and index == 0 else 1
            layers, side, channels = block(side, channels, width * 2**stage, stride, settings.BOTTLENECK[model])
            yield from layers
    sizes = (channels, *settings.HEAD_HIDDEN_SIZES, settings.HEAD_SIZE)
    for i, (size_in, size_out) in enumerate(itertools.pairwise(sizes)):
        yield Layer(size_in, size_out, size_in * size_out, size_in, batch_norm=i < len(sizes) - 2)


def work(layers: list[Layer], *, batch_size: int, num_views: int, dtype: str) -> Work:
    """What one training step through these layers needs, by the rule above.

    Args:
      layers: first to last.
      batch_size: b, images.
      num_views: v, of every image.
      dtype: "float32" or "bfloat16".
    """
    operations = elements = kernels = parameters = 0
    for i, layer in enumerate(layers):
        products = 2 if i == 0 else 3
        operations += products * 2 * layer.channels_read * layer.outputs
        elements += layer.inputs + layer.outputs  # forward
        elements += layer.outputs + layer.inputs + (layer.inputs if i else 0)  # backward
        if layer.batch_norm:
            elements += 3 * layer.outputs + 3 * layer.outputs
        kernels += 3 * layer.kernel
        parameters += layer.kernel + (2 * round(layer.outputs / positions(layer)) if layer.batch_norm else 0)
    images = batch_size * num_views
    adam = 7 * 4 * parameters
    return Work(float(images * operations), float(BYTES[dtype] * (images * elements + kernels) + adam))


def positions(layer: Layer) -> int:
    """Pixels of a layer's output."""
    return layer.outputs * layer.channels_read // layer.kernel


def step_work(case: Case) -> Work:
    """What one step of a case needs."""
    layers = list(encoder_layers(case.model, case.width))
    return work(layers, batch_size=case.batch_size, num_views=settings.NUM_VIEWS, dtype=case.dtype)


def floor_seconds(work: Work, *, operations_per_second: float, bytes_per_second: float) -> float:
    """No step can be faster: the slower of computing and moving, as if the other were free."""
    return max(work.operations / operations_per_second, work.bytes / bytes_per_second)


class Ceilings:
    """The measured rates of this machine, as a worker of `benchmarks.peer`."""

    def __init__(self, case: Case):
        import jax

        del case
        device = jax.devices()[0]
        self.device = {"platform": device.platform, "name": device.device_kind, "jax": jax.__version__}

    def rates(self) -> dict[str, object]:
        """{"device": ..., "float32": operations/s, "bfloat16": operations/s, "copy": bytes/s}."""
        return {"device": self.device, **measured.rates(on_cpu=self.device["platform"] == "cpu")}
