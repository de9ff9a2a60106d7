"""Our whole training step against PyTorch's, and against what the machine can do at most.

    pip install -e .[benchmarks]
    python -m benchmarks.peer                      # everything, in under eight minutes
    python -m benchmarks.peer --out=BENCHMARKS.md  # and appends the tables to a file

A step is: take a batch, make four views (two with a draw an image, two with a shared draw), embed them, InfoNCE and the
equivariance loss, backward, Adam. Ours is one compiled call on images that are resident on the device. The official way
is a PyTorch step that does the same work as the official code goes about it (`torch_peer.Official`); on a GPU there is
also a PyTorch step made as fast as we know how (`torch_peer.Tuned`), and ours in bfloat16. Each side is a process of
its own. Every time is that of a step that has finished on its device. On a CPU the sides take turns, step by step; on a
GPU, where their memory together may not fit and the official way prefetches batches, they come one after the other.

On NVIDIA's GPUs "float32" convolutions are TF32 on both sides, the default of JAX as of PyTorch.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks import ceilings, settings, tables
from benchmarks.settings import Case
from benchmarks.workers import Worker, WorkerFailed

NAMES = {
    "ours": "care_jax",
    "official": "PyTorch, the official way",
    "tuned_one": "PyTorch tuned, four views in one pass",
    "tuned_four": "PyTorch tuned, four passes",
}
# What matters most comes first: what no time is left for is left out.
GPU_ORDER = (
    ("ours", "bfloat16"),
    ("tuned_one", "bfloat16"),
    ("official", "float32"),
    ("ours", "float32"),
    ("tuned_four", "bfloat16"),
)


class Result(NamedTuple):
    """The times of one case.

    Attributes:
      case: what was timed.
      first: seconds of the first step, compilation included.
      times: seconds of each step timed.
      views: seconds of making the views alone; None for a peer.
      note: what a reader must know of it, or nothing.
    """

    case: Case
    first: float
    times: list[float]
    views: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.times))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("benchmarks.peer", description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, help="images a step (default: 256 on a GPU, 32 on a CPU)")
    parser.add_argument("--steps", type=int, default=7, help="steps timed, at least 5")
    parser.add_argument("--models", default="resnet18,resnet50", help="comma-separated")
    parser.add_argument("--width", type=int, default=settings.WIDTH, help="channels of the first stage")
    parser.add_argument("--budget_seconds", type=float, default=450.0, help="nothing is begun or goes on after this")
    parser.add_argument("--out", help="file that the tables are appended to")
    flags = parser.parse_args(arguments)
    flags.models = flags.models.split(",")
    if unknown := set(flags.models) - set(settings.STAGE_SIZES):
        parser.error(f"--models: {', '.join(sorted(unknown))}; there are {', '.join(settings.STAGE_SIZES)}")
    if flags.steps < 5:
        parser.error(f"--steps must be at least 5; got {flags.steps}")
    if flags.batch_size is not None and (flags.batch_size < 1 or flags.batch_size % settings.NUM_GROUPS):
        parser.error(f"--batch_size must be a multiple of {settings.NUM_GROUPS} groups; got {flags.batch_size}")
    return flags


def plan(flags: argparse.Namespace, on_gpu: bool) -> list[list[Case]]:
    """What to time, in order; the cases of an inner list take turns."""
    batch_size = flags.batch_size or (256 if on_gpu else 32)
    base = Case("", batch_size=batch_size, width=flags.width, num_images=16 * batch_size)
    if not on_gpu:
        return [[base._replace(kind=kind, model=model) for kind in ("ours", "official")] for model in flags.models]
    return [[base._replace(kind=kind, model=model, dtype=dtype)] for kind, dtype in GPU_ORDER for model in flags.models]


def describe(case: Case) -> str:
    """For messages."""
    return f"{case.model}, batch {case.batch_size}, {NAMES[case.kind]}, {case.dtype}"


def take_turns(workers: list[Worker], *, steps: int, warm_up: int, deadline: float) -> list[Result]:
    """Compiles, warms up and times the workers' steps, one of each in turn; fewer steps where time runs out."""
    firsts, times = [], [[] for _ in workers]
    for worker in workers:
        began = time.perf_counter()
        worker.ask("prepare")
        worker.ask("step")
        firsts.append(time.perf_counter() - began)
    rounds = []
    for round_ in range(warm_up + steps):
        began = time.monotonic()
        if round_ > warm_up and began + max(rounds) > deadline - 5:
            print(f"out of time after {round_ - warm_up} of {steps} steps", file=sys.stderr)
            break
        for worker, own in zip(workers, times, strict=True):
            own.append(worker.ask("step"))
        rounds.append(time.monotonic() - began)
    results = []
    for worker, first, own in zip(workers, firsts, times, strict=True):
        views, note = None, ""
        if worker.case.kind == "ours":
            views = worker.ask("views")
        elif worker.case.kind.startswith("tuned") and not worker.ask("compiled"):
            note = "torch.compile failed"
        results.append(Result(worker.case, first, own[warm_up:], views, note))
    return results


def run(cases: list[list[Case]], *, steps: int, on_gpu: bool, deadline: float) -> list[Result]:
    """Times every case that there is time for, and says which there was none for or which failed."""
    results, ready = [], {}

    def workers_of(index: int) -> list[Worker]:
        if index not in ready:
            ready[index] = [Worker(case, deadline) for case in cases[index]]
        return ready[index]

    try:
        for index, group in enumerate(cases):
            if time.monotonic() >= deadline:
                print(f"skipped, out of time: {'; '.join(map(describe, group))}", file=sys.stderr)
                continue
            workers = workers_of(index)
            # Beside a GPU there are cores to spare for the next one's imports.
            if on_gpu and index + 1 < len(cases):
                workers_of(index + 1)
            try:
                new = take_turns(workers, steps=steps, warm_up=3 if on_gpu else 1, deadline=deadline)
            except WorkerFailed as failure:
                print(f"no result ({failure}): {'; '.join(map(describe, group))}", file=sys.stderr)
                continue
            finally:
                for worker in ready.pop(index):
                    worker.close()
            for result in new:
                print(f"{describe(result.case)}: {result.median:.4f} s a step", file=sys.stderr)
            results += new
    finally:
        for worker in [worker for workers in ready.values() for worker in workers]:
            worker.close()
    return results


def comparison(results: Sequence[Result]) -> str:
    """A row a case, in the order of models and then of speed, with how many times as fast ours is."""
    dtypes = [d for d in ("float32", "bfloat16") if any(r.case.kind == "ours" and r.case.dtype == d for r in results)]
    header = ["model", "step", "type", "batch", "steps", "seconds a step, median", "fastest – slowest", "images/s"]
    header += [f"its time over ours in {dtype}" for dtype in dtypes] + ["first step s"]
    rows = []
    for model in dict.fromkeys(r.case.model for r in results):
        of_model = [r for r in results if r.case.model == model]
        ours = {r.case.dtype: r.median for r in of_model if r.case.kind == "ours"}
        for r in sorted(of_model, key=lambda r: r.median):
            name = NAMES[r.case.kind] + (f" ({r.note})" if r.note else "")
            ratios = [tables.significant(r.median / ours[d]) if d in ours else "–" for d in dtypes]
            numbers = [*tables.spread(r.times), f"{r.case.batch_size / r.median:.0f}", *ratios, f"{r.first:.0f}"]
            rows.append([model, name, r.case.dtype, r.case.batch_size, len(r.times), *numbers])
    return tables.table(header, rows)


def shares(results: Sequence[Result], rates: dict[str, float]) -> str:
    """A row for each of our cases: what of the step is augmentation, and how near the machine's limits it comes."""
    header = ["model", "type", "views s", "views, share of the step", "GFLOP an image", "MB an image", "TFLOP/s"]
    header += ["share of the matrix product's", "GB/s", "share of the copy's", "floor s", "step over floor"]
    rows = []
    for r in results:
        if r.case.kind != "ours" or r.case.dtype not in rates or r.views is None:
            continue
        work, b = ceilings.step_work(r.case), r.case.batch_size
        matmul, copy = rates[r.case.dtype], rates["copy"]
        floor = ceilings.floor_seconds(work, operations_per_second=matmul, bytes_per_second=copy)
        operations, moved = work.operations / r.median, work.bytes / r.median
        views = [tables.significant(r.views), f"{r.views / r.median:.1%}"]
        counts = [tables.significant(work.operations / b / 1e9), tables.significant(work.bytes / b / 1e6)]
        reached = [tables.significant(operations / 1e12), f"{operations / matmul:.0%}"]
        reached += [tables.significant(moved / 1e9), f"{moved / copy:.0%}"]
        end = [tables.significant(floor), tables.significant(r.median / floor)]
        rows.append([r.case.model, r.case.dtype, *views, *counts, *reached, *end])
    return tables.table(header, rows)


def report(results: Sequence[Result], measured: dict) -> str:
    """Both tables, and where they were made."""
    rates = {name: rate for name, rate in measured.items() if name != "device"}
    matmuls = ", ".join(f"{rates[d] / 1e12:.3g} TFLOP/s in {d}" for d in ("float32", "bfloat16") if d in rates)
    return "\n\n".join(
        [
            tables.provenance(measured["device"]["name"], ["jax", "torch"]) + ":",
            comparison(results),
            f"Our step beside the machine's measured rates: large matrix product {matmuls}; large copy "
            f"{rates['copy'] / 1e9:.3g} GB/s read and written. The floor is the slower of the two at their full rate "
            "(how operations and bytes are counted: `benchmarks/ceilings.py`).",
            shares(results, rates),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything; returns the exit status."""
    flags = parse(sys.argv[1:] if arguments is None else arguments)
    if importlib.util.find_spec("torch") is None:
        print("benchmarks.peer compares with PyTorch, which is not installed: pip install -e .[benchmarks]")
        return 2
    deadline = time.monotonic() + flags.budget_seconds
    worker = Worker(Case("ceilings"), deadline)
    try:
        worker.ask("prepare")
        measured = worker.ask("rates")
    except WorkerFailed as failure:
        print(f"JAX does not run here: {failure}")
        return 1
    finally:
        worker.close()
    on_gpu = measured["device"]["platform"] != "cpu"
    results = run(plan(flags, on_gpu), steps=flags.steps, on_gpu=on_gpu, deadline=deadline)
    if not results:
        print("nothing was timed")
        return 1
    tables.deliver(report(results, measured), flags.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
