"""How far long work has got: a bar on a terminal, a line now and then elsewhere (a log has no use for bars)."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from care_jax.command_line import say

Batch = TypeVar("Batch")

_SECONDS = 30.0  # between lines


def progress(batches: Iterable[tuple[int, Batch]], total: int, unit: str) -> Iterator[Batch]:
    """The batches, and meanwhile a word on standard error of how many of `total` units they were.

    Args:
      batches: each with the number of units that it is.
      total: units in all of them.
      unit: its name, in the singular.
    """
    bar = tqdm(total=total, unit=unit, dynamic_ncols=True, disable=not sys.stderr.isatty(), leave=False)
    began = told = time.perf_counter()
    done = 0
    try:
        for count, batch in batches:
            yield batch
            done += count
            bar.update(count)
            now = time.perf_counter()
            if bar.disable and now - told > _SECONDS and done < total:
                left = (now - began) / max(done, 1) * (total - done)
                say(f"{done:,} of {total:,} {unit}s, {left:.0f} s left")
                told = now
    finally:
        bar.close()
