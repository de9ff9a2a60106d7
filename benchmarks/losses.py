"""Time and memory of the losses' values and gradients, beside the plain forms that they stand in for.

    python -m benchmarks.losses
    python -m benchmarks.losses --out=BENCHMARKS.md

Every row is measured in a process of its own, once it has compiled. "Peak, compiler" is what XLA plans to allocate
besides the inputs: temporaries and outputs. "Peak, measured" is by how much the process's resident memory grew over
what it was with the inputs in place (on a GPU: the allocator's peak, less what it held).
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import tables
from care_jax import losses
from care_jax.losses import equivariance

D = 128
TEMPERATURE = 0.5
MIB = 2**20

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def automatic_equivariance(z1: jax.Array, z2: jax.Array) -> jax.Array:
    """As the step calls it: the form is chosen by the sizes."""
    return losses.equivariance_loss(z1, z2, num_groups=1)


def gram_equivariance(z1: jax.Array, z2: jax.Array) -> jax.Array:
    """By the [n, n] matrix of changes, whatever n."""
    total, difference = (z1 + z2)[None], (z1 - z2)[None]
    return 2.0 / len(z1) * equivariance._squared_change_in_pairs(total, difference, None)


def info_nce(z1: jax.Array, z2: jax.Array) -> jax.Array:
    """As the step calls it."""
    return losses.info_nce(z1, z2, temperature=TEMPERATURE)


def dense_info_nce(z1: jax.Array, z2: jax.Array) -> jax.Array:
    """By the whole [2n, 2n] matrix of similarities."""
    z = jnp.concatenate([z1, z2])
    logits = jnp.matmul(z, z.T, precision=jax.lax.Precision.HIGHEST) / TEMPERATURE
    logits = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, logits)
    positives = jnp.tile(jnp.sum(z1 * z2, axis=1) / TEMPERATURE, 2)
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - positives)


class Measured(NamedTuple):
    """A loss to measure.

    Attributes:
      name: in the table.
      size: what n is, in the table.
      loss: [n, d], [n, d] -> scalar.
      n: rows of each view.
      reference: the case whose value this one's is compared with, or None.
    """

    name: str
    size: str
    loss: Loss
    n: int
    reference: str | None


CASES = {
    "equivariance": Measured("`equivariance_loss`", "n = 8,192, one group", automatic_equivariance, 8192, "gram"),
    "gram": Measured("the same by [n, n] Gram matrices", "n = 8,192, one group", gram_equivariance, 8192, None),
    "info_nce": Measured("`info_nce`", "2n = 8,192", info_nce, 4096, "dense"),
    "dense": Measured("the same by the [2n, 2n] matrix", "2n = 8,192", dense_info_nce, 4096, None),
    "info_nce_large": Measured("`info_nce`", "2n = 32,768", info_nce, 16384, None),
}


def embeddings(n: int) -> tuple[jax.Array, jax.Array]:
    """Two views [n, d], unit rows: positives lie about 60 degrees from each other, negatives anywhere."""
    first, second = np.random.default_rng(0).normal(size=(2, n, D)).astype(np.float32)
    second = first + 1.7 * second
    return tuple(jnp.asarray(z / np.linalg.norm(z, axis=1, keepdims=True)) for z in (first, second))


def _resident(field: str) -> int:
    """Bytes, "VmRSS" now or "VmHWM" at most; 0 where the system doesn't tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def _memory_growth(function: Callable[[], object]) -> float:
    """Bytes by which the memory in use grew at most while the function ran."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        before = device.memory_stats()["bytes_in_use"]
        jax.block_until_ready(function())
        return device.memory_stats()["peak_bytes_in_use"] - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the most so far was the compiler's
    except OSError:
        return float("nan")
    before = _resident("VmRSS")
    jax.block_until_ready(function())
    return _resident("VmHWM") - before


def measure(case: Measured, *, steps: int, shrink: int = 1) -> dict[str, object]:
    """Times (s), peaks (bytes) and value of one loss and its gradients.

    Args:
      case: which.
      steps: times it is timed.
      shrink: divides n, for a trial.
    """
    z1, z2 = jax.block_until_ready(embeddings(case.n // shrink))
    compiled = jax.jit(jax.value_and_grad(case.loss, argnums=(0, 1))).lower(z1, z2).compile()
    planned = compiled.memory_analysis()
    grown = _memory_growth(lambda: compiled(z1, z2))
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        value, _ = jax.block_until_ready(compiled(z1, z2))
        times.append(time.perf_counter() - began)
    return {
        "times": times,
        "grown": float(grown),
        "planned": planned.temp_size_in_bytes + planned.output_size_in_bytes,
        "value": float(value),
        "device": jax.devices()[0].device_kind,
    }


def report(results: dict[str, dict], shrink: int = 1) -> str:
    """The table, and where it was made."""
    header = ["value and gradients of", "size", "seconds, median", "fastest – slowest"]
    header += ["peak, measured MiB", "peak, compiler MiB", "relative difference of the value"]
    rows = []
    for name, result in results.items():
        case = CASES[name]
        difference = "–"
        if case.reference in results:
            reference = results[case.reference]["value"]
            difference = f"{abs(result['value'] - reference) / abs(reference):.1e}"
        peaks = [f"{result[peak] / MIB:.0f}" for peak in ("grown", "planned")]
        rows.append([case.name, case.size, *tables.spread(result["times"]), *peaks, difference])
    device = next(iter(results.values()))["device"]
    trial = f", every n divided by {shrink}" if shrink > 1 else ""
    return f"{tables.provenance(device, ['jax'])}, d = {D}, float32{trial}:\n\n{tables.table(header, rows)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures every case; returns the exit status."""
    parser = argparse.ArgumentParser("benchmarks.losses", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shrink", type=int, default=1, help="divides every n, for a trial")
    parser.add_argument("--only", choices=CASES, help="measure this case in this process and print its numbers")
    parser.add_argument("--out", help="file that the table is appended to")
    flags = parser.parse_args(arguments)
    if flags.only:
        print(json.dumps(measure(CASES[flags.only], steps=flags.steps, shrink=flags.shrink)))
        return 0
    results, failed = {}, False
    command = [sys.executable, "-m", "benchmarks.losses", f"--steps={flags.steps}", f"--shrink={flags.shrink}"]
    for name, case in CASES.items():
        done = subprocess.run(
            [*command, f"--only={name}"], cwd=Path(__file__).parents[1], capture_output=True, text=True
        )
        if done.returncode:
            failed = True
            reason = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
            print(f"no result for {case.name}, {case.size}: {reason}", file=sys.stderr)
            continue
        results[name] = json.loads(done.stdout.splitlines()[-1])
    if results:
        tables.deliver(report(results, flags.shrink), flags.out)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
