"""A model of the step's time at 8 to 1,024 devices, from pieces that one measures; docs/scaling.md says which.

    python -m benchmarks.scaling --images_per_second=1000 --bandwidth=25 --batch_size=4096

    time = max(compute + loss + communication, input)
    compute = b / D / rate of one device
    loss = 3 products of [2b, d] by [d, 2b], shared by D devices
    communication = 2 (D-1)/D parameters / bandwidth  +  2 (D-1)/D embeddings / bandwidth  +  all-reduces * latency
    input = b / D / what a host gives each of its devices

Nothing is assumed to overlap, so it errs on the slow side.
"""

import math
from typing import NamedTuple

from absl import app, flags

FLAGS = flags.FLAGS
DEVICES = (8, 16, 32, 64, 128, 256, 512, 1024)


class Pieces(NamedTuple):
    """What the model is made of.

    Attributes:
      batch_size: b, images a step over all devices.
      images_per_second: of one device alone, whole step, four views.
      parameter_bytes: reduced over all devices each step.
      num_all_reduces: in a step, most of them batch norm's, a few kB each.
      embedding_size: d.
      bandwidth: bytes a second that a device sends while all do, over the slowest link of the ring.
      latency: seconds of a small all-reduce for each doubling of the devices.
      operations_per_second: of one device's float32 matrix products.
      input_per_second: images a second that its host can decode for one device; 0 where images are resident.
    """

    batch_size: int
    images_per_second: float
    parameter_bytes: float
    num_all_reduces: int
    embedding_size: int
    bandwidth: float
    latency: float
    operations_per_second: float
    input_per_second: float


def step_seconds(pieces: Pieces, devices: int) -> dict[str, float]:
    """Seconds of each part of a step, and of the whole.

    Args:
      pieces: as measured, or assumed.
      devices: D.
    """
    b, share = pieces.batch_size, pieces.batch_size / devices
    sent = (devices - 1) / devices / pieces.bandwidth
    # Four views go out; their gradients stay with their rows. Two of the four meet all others in the loss.
    embedding_bytes = 4 * b * pieces.embedding_size * 4
    parts = {
        "compute": share / pieces.images_per_second,
        "loss": 3 * 2 * (2 * b) ** 2 * pieces.embedding_size / devices / pieces.operations_per_second,
        "parameters": 2 * pieces.parameter_bytes * sent,
        "embeddings": embedding_bytes * sent,
        "latency": pieces.num_all_reduces * pieces.latency * math.log2(devices),
    }
    given = share / pieces.input_per_second if pieces.input_per_second else 0.0
    return {**parts, "input": given, "step": max(sum(parts.values()), given)}


def main(argv: list[str]) -> None:
    """Prints a row for each number of devices that the batch can be shared by."""
    del argv
    pieces = Pieces(
        batch_size=FLAGS.batch_size,
        images_per_second=FLAGS.images_per_second,
        parameter_bytes=FLAGS.parameter_bytes,
        num_all_reduces=FLAGS.num_all_reduces,
        embedding_size=FLAGS.embedding_size,
        bandwidth=FLAGS.bandwidth * 1e9,
        latency=FLAGS.latency * 1e-6,
        operations_per_second=FLAGS.teraflops * 1e12,
        input_per_second=FLAGS.input_per_second,
    )
    print("| devices | images a device | compute ms | loss ms | communication ms | step ms | images/s | efficiency |")
    print("|---|---|---|---|---|---|---|---|")
    for devices in DEVICES:
        if pieces.batch_size % devices:
            continue
        parts = {name: 1e3 * seconds for name, seconds in step_seconds(pieces, devices).items()}
        speed = pieces.batch_size / parts["step"] * 1e3
        communication = parts["parameters"] + parts["embeddings"] + parts["latency"]
        print(
            f"| {devices} | {pieces.batch_size // devices} | {parts['compute']:.1f} | {parts['loss']:.2f} | "
            f"{communication:.1f} | {parts['step']:.1f} | {speed:,.0f} | "
            f"{speed / devices / pieces.images_per_second:.0%} |"
        )


def define_flags() -> None:
    """Defaults: ResNet-50 with its head; the links and the device are to be replaced by one's own."""
    flags.DEFINE_integer("batch_size", 4096, "Images a step over all devices.", lower_bound=8)
    flags.DEFINE_float("images_per_second", 1000.0, "Of one device, whole step.", lower_bound=1e-3)
    flags.DEFINE_float("parameter_bytes", 98462464, "Float32 parameters.")
    flags.DEFINE_integer("num_all_reduces", 211, "As care_jax.cost counts them.")
    flags.DEFINE_integer("embedding_size", 128, "Of the projection.")
    flags.DEFINE_float("bandwidth", 25.0, "GB/s a device, slowest link of the ring.", lower_bound=1e-3)
    flags.DEFINE_float("latency", 10.0, "Microseconds of a small all-reduce, a doubling of the devices.")
    flags.DEFINE_float("teraflops", 50.0, "Float32 matrix products of a device.", lower_bound=1e-3)
    flags.DEFINE_float("input_per_second", 0.0, "Images a second that a host decodes for one device; 0: resident.")


if __name__ == "__main__":
    define_flags()
    app.run(main)
