"""What a start that failed early leaves: nothing, where the folder was its own; and of rows that go, a line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from care_jax.train.metric_writer import read_metrics

# Files that a start makes before its first row.
_OWN = ("lock", "config.json", "data.json.gz", "metrics.jsonl")


@contextmanager
def leaves_nothing(workdir: Path) -> Iterator[None]:
    """Removes the folder, and those above it, that a block makes and fails in, unless it holds more than its claim.

    Rows of metrics are more: they may show what went wrong.
    """
    new = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if workdir in new and not read_metrics(workdir):
                _remove(workdir)
                for folder in new:
                    folder.rmdir()
        raise


def _remove(workdir: Path) -> None:
    for file in (workdir / "tensorboard").glob("events*"):
        file.unlink()
    for name in ("tensorboard", "checkpoints"):
        with suppress(OSError):  # it is not there; or not empty, and then the workdir stays
            (workdir / name).rmdir()
    files = list(workdir.iterdir())
    if all(file.name in _OWN for file in files):
        for file in files:
            file.unlink()


def tell_of_rows(workdir: Path, warn: Callable[[str], None]) -> None:
    """Says that the rows of a start that saved nothing are about to go."""
    steps = [int(row["step"]) for row in read_metrics(workdir)]
    if steps:
        warn(
            f"{workdir} has the rows of a start that ended before its first checkpoint (up to step {max(steps)}): "
            "this one begins anew, and in their place"
        )
