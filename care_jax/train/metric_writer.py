"""Numbers of a run: one JSON object a line in `metrics.jsonl`, and the same to TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tensorboardX import SummaryWriter


class MetricWriter:
    """Appends rows of numbers to a run's files.

    Args:
      workdir: folder of the run; gets `metrics.jsonl` and `tensorboard/`.
      start_step: rows of later steps are dropped: the steps are about to be made again.
      enabled: False for the processes of a run that leave writing to the first.
    """

    def __init__(self, workdir: Path, *, start_step: int = 0, enabled: bool = True):
        self._enabled = enabled
        if not enabled:
            return
        self._path = Path(workdir) / "metrics.jsonl"
        rows = [row for row in read_metrics(workdir) if row["step"] <= start_step]
        # A new file under another name first: a kill between the two leaves the old rows.
        draft = self._path.with_suffix(".jsonl.new")
        draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
        draft.replace(self._path)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Adds one row, on disk when this returns.

        Args:
          step: number of updates made.
          numbers: finite values by name.
        """
        if not self._enabled:
            return
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        if not self._enabled:
            return
        self._file.close()
        self._board.close()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """The rows of `workdir/metrics.jsonl`, oldest first; a last line cut short by a kill is left out."""
    path = Path(workdir) / "metrics.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
