"""What experiments share: runs that are not made twice, and tables of their summaries."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
import numpy as np

from care_jax.command_line import UsageError, say
from care_jax.run import run

Summary = Mapping[str, float]

# Key of summary.json -> (heading, decimals).
COLUMNS: dict[str, tuple[str, int]] = {
    "relative_equivariance_median": ("relative equivariance, median ↓", 4),
    "relative_equivariance_mean": ("mean ↓", 3),
    "wahba_mean": ("Wahba, mean ↓", 4),
    "wahba_worst": ("worst ↓", 4),
    "linear_probe_top1": ("digit probe % ↑", 1),
    "hue_probe_top1": ("hue probe % ↑", 1),
    "knn_top1": ("kNN % ↑", 1),
    "alignment": ("alignment ↓", 3),
    "uniformity": ("uniformity ↓", 3),
    "seconds": ("seconds", 0),
}


def finished_run(config: ml_collections.ConfigDict, workdir: Path) -> Summary:
    """The summary of a run, made now unless `workdir` has it."""
    path = workdir / "summary.json"
    if not path.exists():
        say(
            f"{workdir}: {config.loss.method}, {config.equivariance.term}, lambda {config.equivariance.weight:g}, "
            f"seed {config.seed}"
        )
        if not run(config, workdir):
            raise UsageError(f"{workdir} was stopped; the same command goes on from there")
    return json.loads(path.read_text())


def table(
    labels: Sequence[str], results: Mapping[tuple[str, ...], Sequence[Summary]], columns: Sequence[str] = tuple(COLUMNS)
) -> str:
    """Markdown, a row a configuration: mean and standard deviation over the training seeds.

    A measure that one of the seeds does not have (null in its summary.json) is a dash.

    Args:
      labels: headings of what tells the rows apart.
      results: the row's labels -> summaries, one a seed.
      columns: keys of the summaries to show.
    """
    headings = [*labels, *(COLUMNS[column][0] for column in columns)]
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for row, summaries in results.items():
        cells = list(row)
        for column in columns:
            digits = COLUMNS[column][1]
            values = np.asarray([summary[column] for summary in summaries], np.float64)  # None becomes NaN
            if np.isnan(values).any():
                cells.append("–")
                continue
            spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean(summaries: Sequence[Summary], column: str) -> float:
    """Over the seeds; NaN where one of them could not be measured."""
    return float(np.mean(np.asarray([summary[column] for summary in summaries], np.float64)))
