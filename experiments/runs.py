"""What experiments share: runs that are not made twice, and tables of their summaries."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from care_jax.command_line import UsageError, say
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import from_plain, read_config
from care_jax.experiment.continuation import changes
from care_jax.run import run
from care_jax.storage import replace_file
from care_jax.workdir import check_data, writing

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
    """The summary of a run, made now unless `workdir` has it.

    Raises:
      UsageError: `workdir` has that of another configuration or of an earlier step; or the run was stopped.
      DataError: the data has changed since.
    """
    build.check(config, sharding.make_mesh())
    path = workdir / "summary.json"
    if path.exists():
        _check_same(config, workdir, _read(path))
    else:
        say(
            f"{workdir}: {config.loss.method}, {config.equivariance.term}, lambda {config.equivariance.weight:g}, "
            f"seed {config.seed}"
        )
        if not run(config, workdir):
            sys.exit(0)  # stopped, which it has said
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text())
        if not isinstance(summary, dict) or "steps" not in summary:
            raise ValueError("it is no summary of a run")
        return summary
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read ({error}): delete it, and the same command evaluates anew") from error


def _check_same(config: ml_collections.ConfigDict, workdir: Path, summary: Mapping[str, Any]) -> None:
    """A row of a table is of the configuration that it is said to be of, and of its last step."""
    # Summaries of before say nothing of the settings that they were made with; the folder does.
    made_with = from_plain(summary["config"]) if "config" in summary else read_config(workdir)
    different = changes(made_with, config)
    if different:
        raise UsageError(
            f"{workdir} holds a run with other settings ({'; '.join(different)}): delete it to make it anew, or give "
            "another --workdir"
        )
    experiment = build.build(config)
    check_data(workdir, experiment.dataset)
    if summary["steps"] != experiment.num_steps:
        raise UsageError(
            f"{workdir / 'summary.json'} is of step {summary['steps']}, not {experiment.num_steps}: make that of the "
            f"last step again with python -m care_jax.evaluate --workdir={workdir}"
        )


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


def write_table(workdir: Path, text: str) -> None:
    """Leaves a table in the folder of its runs.

    Raises:
      WorkdirError: it can't be written.
    """
    with writing(workdir):
        replace_file(workdir / "table.md", text + "\n")


def mean(summaries: Sequence[Summary], column: str) -> float:
    """Over the seeds; NaN where one of them could not be measured."""
    return float(np.mean(np.asarray([summary[column] for summary in summaries], np.float64)))
