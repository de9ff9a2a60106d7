"""What a start that failed early leaves: nothing, where the folder was its own; and of rows that go, a line."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from care_jax import storage
from care_jax.train.metric_writer import read_metrics

# Files that a start makes before its first row.
_OWN = ("lock", "config.json", "data.json.gz", "metrics.jsonl", "loggers.json")


@contextmanager
def leaves_nothing(workdir: Path, lock: TextIO, new: Sequence[Path]) -> Iterator[None]:
    """Removes a folder that was made for a block which fails in it, unless it holds more than its claim.

    Rows of metrics are more: they may show what went wrong.

    Args:
      workdir: the folder.
      lock: its open lock file: another folder may have taken its place.
      new: of it and of those above it, the ones that were made for the block.
    """
    try:
        yield
    except BaseException:
        with suppress(OSError):
            own = workdir in new and storage.is_same_file(lock.fileno(), workdir / "lock")
            if own and not read_metrics(workdir):
                _remove(workdir)
                for folder in new:
                    folder.rmdir()
        raise


def _remove(workdir: Path) -> None:
    """All that a start makes before its first row; nothing where there is more."""
    inside = [*(workdir / "tensorboard").glob("events*"), *(workdir / name for name in _OWN)]
    folders = [workdir / name for name in ("tensorboard", "checkpoints")]
    if set(workdir.rglob("*")) <= {*inside, *folders}:
        for file in inside:
            file.unlink(missing_ok=True)
        for folder in folders:
            if folder.exists():
                folder.rmdir()


def tell_of_rows(workdir: Path, warn: Callable[[str], None]) -> None:
    """Says that the rows of a start that saved nothing are about to go."""
    steps = [int(row["step"]) for row in read_metrics(workdir)]
    if steps:
        warn(
            f"{workdir} has the rows of a start that ended before its first checkpoint (up to step {max(steps)}): "
            "this one begins anew, and in their place"
        )
