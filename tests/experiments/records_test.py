"""What experiments/results keeps of runs is a table's folder: they need not be made again."""

import json
import tarfile
from pathlib import Path

import pytest

from care_jax.sweep.reuse import finished_in
from experiments import benchmark
from experiments.finished import FinishedTable

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


@pytest.mark.parametrize(
    ("name", "folder", "without"),
    [
        ("digits_benchmark", "benchmark_records", set()),
        ("fashion_benchmark", "fashion_benchmark_records", {"simclr", "simclr_care"}),  # whose runs were not kept
    ],
)
def test_the_records_of_the_benchmark_are_runs_that_can_be_taken_over(tmp_path, capsys, name, folder, without):
    with tarfile.open(RESULTS / f"{name}_records.tar.gz") as records:
        records.extractall(tmp_path, filter="data")
    folder = tmp_path / folder
    table, tries = finished_in(folder), finished_in(folder / "tuning")
    assert "is not taken over" not in capsys.readouterr().err
    written = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    kept = set(written) - without
    assert {run.workdir.name.rpartition("_seed_")[0] for run in table} == kept
    some = FinishedTable(folder, only=("moco", "moco_care"), against="moco")
    assert some.against == "moco" and all(list(seeds) == ["0", "1", "2"] for seeds in some.folders.values())
    for row in kept:
        summaries = [json.loads((folder / f"{row}_seed_{seed}" / "summary.json").read_text()) for seed in range(3)]
        digests = [one["params_sha256"] for one in summaries]
        assert [one["params_sha256"] for one in written[row]["runs"]] == digests
    assert {run.config.seed for run in tries} == {benchmark.TUNING_SEED}
    assert len(tries) >= 3 * len(kept)
