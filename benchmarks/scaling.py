"""The step's time on many devices, from what the compiler says of it: the JSON files of `python -m care_jax.cost`.

    python -m care_jax.cost --config=configs/imagenet.py --topology=v5e:16x16 --effort=-1 --json=v5e_256.json
    python -m benchmarks.scaling v5e_256.json v5p_64.json

    step = max(operations / peak, bytes / bandwidth)  +  2 (D-1)/D reduced + (D-1)/D gathered bytes, over the links
           +  collectives * latency * log2 D

Computing and moving overlap perfectly, so the first part is a floor; what devices send overlaps with nothing, so the
rest is not. Nothing here has been measured.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

FLAGS = flags.FLAGS

# Bytes a second that a device sends to its neighbours while all do, each link counted in one direction: for TPUs half
# of the "bidirectional inter-chip interconnect" at cloud.google.com/tpu/docs (a device of a 7x is half a chip), for
# GPUs one 400 Gb/s network card each, which is what lies between hosts of eight.
LINKS = {
    "TPU v4": 150e9,
    "TPU v5 lite": 100e9,
    "TPU v5": 300e9,
    "TPU v6 lite": 224e9,
    "TPU7x": 300e9,
    "NVIDIA H100 80GB HBM3": 50e9,
    "NVIDIA H200": 50e9,
}
REDUCED = ("all-reduce",)  # sent twice: summed piece by piece, then handed round


class Step(NamedTuple):
    """One row; seconds.

    Attributes:
      devices: D.
      images: a device.
      operations, memory: of one device, at its peaks.
      sent: bytes of the collectives over the links.
      exchanges: what the collectives take however small they are.
    """

    devices: int
    images: float
    operations: float
    memory: float
    sent: float
    exchanges: float

    @property
    def seconds(self) -> float:
        """Of the whole step, at best."""
        return max(self.operations, self.memory) + self.sent + self.exchanges


def step(report: dict[str, Any], *, link: float, latency: float) -> Step:
    """The row of a report.

    Args:
      report: as `care_jax.cost` writes it, of a step that compiles and of a device whose peaks are known.
      link: bytes a second that a device sends.
      latency: seconds of a small collective, a doubling of the devices.
    """
    devices, rows = report["devices"], report["collectives"]
    sent = sum(row["bytes"] * (2 if row["kind"] in REDUCED else 1) for row in rows) * (devices - 1) / devices
    return Step(
        devices=devices,
        images=report["batch_size"] / devices,
        operations=report["floor"]["seconds_by_operations"],
        memory=report["floor"]["seconds_by_bytes"],
        sent=sent / link,
        exchanges=sum(row["number"] for row in rows) * latency * math.log2(devices),
    )


def main(argv: list[str]) -> None:
    """Prints a row for each file."""
    columns = ("topology", "devices", "images a device", "operations ms", "bytes ms", "sent ms", "exchanges ms")
    print(f"| {' | '.join((*columns, 'step ms', 'images/s'))} |\n{'|---' * (len(columns) + 2)}|")
    for name in argv[1:]:
        report = json.loads(Path(name).read_text())
        if not report["compiles"] or report["floor"]["seconds"] is None:
            raise app.UsageError(f"{name}: the step does not compile, or the device's peaks are not known")
        if FLAGS.link is None and report["device"] not in LINKS:
            raise app.UsageError(f"{name}: what a {report['device']} sends is not known; give --link")
        link = LINKS[report["device"]] if FLAGS.link is None else 1e9 * FLAGS.link
        row = step(report, link=link, latency=1e-6 * FLAGS.latency)
        print(
            f"| {report['topology']} | {row.devices} | {row.images:g} | {1e3 * row.operations:.1f} | "
            f"{1e3 * row.memory:.1f} | {1e3 * row.sent:.2f} | {1e3 * row.exchanges:.2f} | {1e3 * row.seconds:.1f} | "
            f"{report['batch_size'] / row.seconds:,.0f} |"
        )


if __name__ == "__main__":
    flags.DEFINE_float("link", None, "GB/s that a device sends, where they are not known.", lower_bound=1e-3)
    flags.DEFINE_float("latency", 2.0, "Microseconds of a small collective, a doubling of the devices: ASSUMED.")
    app.run(main)
