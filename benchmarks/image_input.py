"""Images a second, a core, of the host's part of an ImageNet step: read, decode, two random crops of 224.

    pip install -e .[benchmarks]
    python -m benchmarks.image_input                      # about five minutes on two cores
    python -m benchmarks.image_input --out=BENCHMARKS.md

Ours is `care_jax.data.host_batches`, from an image folder and from TFRecord files, with placement "decode": bytes;
crops, flip, colours and normalisation are left to the device. The peer does what torchvision's transforms do with
Pillow: open a file, convert to RGB, two random resized crops, each with a flip and as a float tensor. "With the
equivariance term" a quarter of the images also gets the central square that its equivariance views are made of:
Resize(256) and CenterCrop(224) in the peer. An image counts once.

A core second is one of processor time, user and system, of the process and its children; `benchmarks/jpegs.py` says
what the images are. Every row is measured in a process of its own.
"""

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import jpegs, tables
from benchmarks.settings import available_cores

SIZE = 224
RESIZED = 256  # the shorter side before the central crop
CROP_SCALE = (0.2, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
BATCH_SIZE = 64
SHARED = 16  # images of a batch that the equivariance term uses
NUM_GROUPS = 4
WARM_UP = 3  # batches
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Case(NamedTuple):
    """A row.

    Attributes:
      side: "folder" or "records" (ours); "loop" or "pool" (the peer).
      equivariance: whether the equivariance term's images are made too.
      threads: of ours; processes of the peer's pool.
    """

    side: str
    equivariance: bool
    threads: int


class Clock:
    """Wall and processor seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._times = time.perf_counter(), os.times()

    def read(self) -> tuple[float, float]:
        """(wall, processor)."""
        now = os.times()
        # user, system, and both of the children that have ended.
        return time.perf_counter() - self._wall, sum(now[:4]) - sum(self._times[:4])


def load(side: str, root: Path):
    """The examples, encoded."""
    from care_jax import data

    if side == "folder":
        return data.load("image_folder", root=root / "folder", resident=False, test_fraction=0.001).pretrain
    return data.load("imagenet2012", root=root / "records").pretrain


def spec(crop: str):
    """configs/imagenet100.py's ranges, as far as the host is concerned."""
    from care_jax.augment import AugmentSpec

    fraction = SIZE / RESIZED if crop == "center" else 1.0
    return AugmentSpec(size=SIZE, crop=crop, crop_scale=CROP_SCALE, center_fraction=fraction, mean=MEAN, std=STD)


def measure_ours(case: Case, root: Path) -> tuple[int, float, float]:
    """(images, wall seconds, processor seconds)."""
    from care_jax import data
    from care_jax.augment import ViewPlan

    examples = load(case.side, root)
    num_steps = WARM_UP + len(examples) // BATCH_SIZE
    batches = data.host_batches(
        examples,
        ViewPlan(
            spec("random_resized"),
            spec("center"),
            seed=0,
            batch_size=BATCH_SIZE,
            equivariance_batch_size=SHARED if case.equivariance else 0,
            num_groups=NUM_GROUPS,
        ),
        placement="decode",
        start_step=0,
        num_steps=num_steps,
        num_threads=case.threads,
    )
    for _ in range(WARM_UP):
        next(batches)
    clock = Clock()
    # As fast as they come; at both ends of the clock no batch waits that was made outside.
    count = sum(BATCH_SIZE for _ in batches)
    return count, *clock.read()


def peer_views(job: tuple[str, bool]) -> int:
    """Everything that the peer makes of one file; returns the number of views, so that a pool has little to send."""
    import torch
    from PIL import Image

    from benchmarks.torch_augment import random_box, resized_crop, to_tensor

    torch.set_num_threads(1)
    path, shared = job
    image = Image.open(path).convert("RGB")
    views = []
    for _ in range(2):
        view = resized_crop(image, random_box(image.height, image.width, CROP_SCALE, CROP_RATIO), SIZE)
        if random.random() < 0.5:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        views.append(to_tensor(view))
    if shared:
        scale = RESIZED / min(image.size)
        view = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (view.width - SIZE) // 2, (view.height - SIZE) // 2
        views.append(to_tensor(view.crop((left, top, left + SIZE, top + SIZE))))
    return len(views)


def measure_peer(case: Case, root: Path) -> tuple[int, float, float]:
    """(images, wall seconds, processor seconds)."""
    paths = sorted(str(path) for path in (root / "folder").rglob("*.jpg"))
    random.Random(0).shuffle(paths)
    jobs = [(path, case.equivariance and i % BATCH_SIZE < SHARED) for i, path in enumerate(paths)]
    warm, jobs = jobs[: len(jobs) // 10], jobs[len(jobs) // 10 :]
    if case.side == "loop":
        sum(map(peer_views, warm))
        clock = Clock()
        sum(map(peer_views, jobs))
        return len(jobs), *clock.read()
    peer_views(warm[0])  # imports before the fork
    clock = Clock()
    # The children's time is known once they have ended; started anew, a pool costs a few milliseconds.
    with ProcessPoolExecutor(case.threads) as pool:
        sum(pool.map(peer_views, jobs, chunksize=8))
    return len(jobs), *clock.read()


def profile(root: Path, count: int = 200) -> list[tuple[str, float]]:
    """Milliseconds an image of each part of ours ("decode"), one after the other on one thread, equivariance off."""
    from care_jax import augment
    from care_jax.data.decode import SourceImage, canvas_side
    from care_jax.data.host_draws import IMAGES_A_CALL, sample_boxes

    images = load("folder", root).images
    count, parts = min(count, len(images)), []
    uniforms = np.random.default_rng(0).random((count, 2, augment.NUM_UNIFORMS), np.float32)
    ranges = spec("random_resized")

    def timed(name: str, function: Callable[[int], object]) -> list:
        function(0)
        began = time.process_time()
        made = [function(i) for i in range(count)]
        parts.append((name, (time.process_time() - began) / count * 1e3))
        return made

    encoded = timed("read the file", images.read)
    opened = timed("header and orientation", lambda i: SourceImage.from_bytes(encoded[i]))

    def draw(i: int) -> list:
        chunk = slice(i, i + IMAGES_A_CALL)
        sizes = [(image.height, image.width) for image in opened[chunk]]
        return sample_boxes(uniforms[chunk], ranges, sizes) if i % IMAGES_A_CALL == 0 else []

    wanted = [b for chunk in timed("draw two boxes", draw) for b in chunk]
    canvases = np.zeros((BATCH_SIZE, canvas_side(SIZE), canvas_side(SIZE), 3), np.uint8)
    timed("decode into the canvas", lambda i: opened[i].paste(canvases[i % BATCH_SIZE], wanted[i], SIZE))
    return parts


def measure(case: Case, root: Path) -> dict:
    """What a process of its own prints of one row."""
    if case.side == "write":
        jpegs.write_records(root / "records", sorted((root / "folder").rglob("*.jpg")))
        return {}
    if case.side == "profile":
        return {"parts": profile(root)}
    count, wall, processor = (measure_peer if case.side in ("loop", "pool") else measure_ours)(case, root)
    return {"images": count, "wall": wall, "processor": processor}


def in_a_process(case: Case, root: Path) -> dict | None:
    """`measure` in another process; None, and a line, where that fails."""
    command = [sys.executable, "-m", "benchmarks.image_input", f"--only={json.dumps(case)}", f"--root={root}"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if done.returncode:
        print(f"no result for {case}: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def plan() -> Iterator[Case]:
    """Every row, ours and the peer's."""
    cores = available_cores()
    for equivariance in (False, True):
        for threads in dict.fromkeys((1, cores)):
            for side in ("folder", "records"):
                yield Case(side, equivariance, threads)
        yield Case("loop", equivariance, 1)
        if cores > 1:
            yield Case("pool", equivariance, cores)


NAMES = {
    "folder": "care_jax `decode`, image folder",
    "records": "care_jax `decode`, TFRecord files",
    "loop": "Pillow, plain loop",
    "pool": "Pillow, process pool",
}


def report(results: Sequence[tuple[Case, dict]], parts: Sequence[tuple[str, float]], description: str) -> str:
    """Both tables; `description` says what the images were."""

    def rate(result: dict, of: str) -> float:
        return result["images"] / result[of]

    loops = {case.equivariance: rate(result, "processor") for case, result in results if case.side == "loop"}
    header = ["pipeline", "equivariance term", "threads or processes", "images", "images/s, wall"]
    header += ["images/s a core second", "over the plain loop's"]
    rows = []
    for case, result in results:
        own = rate(result, "processor")
        ratio = tables.significant(own / loops[case.equivariance]) if case.equivariance in loops else "–"
        counts = [case.threads, result["images"], f"{rate(result, 'wall'):.0f}", f"{own:.0f}", ratio]
        rows.append([NAMES[case.side], "on" if case.equivariance else "off", *counts])
    text = f"{tables.provenance('host only', ['pillow', 'simplejpeg', 'tensorflow-cpu', 'torch'])}; {description}:\n\n"
    text += tables.table(header, rows)
    whole = [
        1e3 / rate(result, "processor")
        for case, result in results
        if (case.side, case.equivariance, case.threads) == ("folder", False, 1)
    ]
    if parts:
        if whole:
            parts = [*parts, ("the rest: tf.data, hand-over, batching", whole[0] - sum(ms for _, ms in parts))]
        text += "\n\nWhere `decode` spends its processor time, equivariance off, image folder, one thread:\n\n"
        text += tables.table(["part", "ms an image"], [[name, tables.significant(ms)] for name, ms in parts])
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the images, measures every row; returns the exit status."""
    parser = argparse.ArgumentParser("benchmarks.image_input", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="images made")
    parser.add_argument("--only", help="measure this case in this process (used by the benchmark itself)")
    parser.add_argument("--root", type=Path, help="where the images are; made in a temporary folder if not given")
    parser.add_argument("--out", help="file that the tables are appended to")
    flags = parser.parse_args(arguments)
    if flags.only:
        print(json.dumps(measure(Case(*json.loads(flags.only)), flags.root)))
        return 0
    if importlib.util.find_spec("torch") is None:
        print("benchmarks.image_input compares with PyTorch's way, which needs it: pip install -e .[benchmarks]")
        return 2
    if flags.count < (WARM_UP + 2) * BATCH_SIZE:
        parser.error(f"--count must be at least {(WARM_UP + 2) * BATCH_SIZE}; got {flags.count}")
    with tempfile.TemporaryDirectory(prefix="image_input_") as folder:
        root = flags.root or Path(folder)
        if not (root / "folder").exists():
            jpegs.write(root / "folder", flags.count)
            in_a_process(Case("write", False, 1), root)
        files = list((root / "folder").rglob("*.jpg"))
        mean = np.mean([path.stat().st_size for path in files])
        description = f"{len(files):,} JPEG files of {mean / 1e3:.0f} KB on average, mostly 500 x 375"
        parts = in_a_process(Case("profile", False, 1), root) or {"parts": []}
        results = [(case, result) for case in plan() if (result := in_a_process(case, root)) is not None]
        if not results:
            return 1
        tables.deliver(report(results, parts["parts"], description), flags.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
