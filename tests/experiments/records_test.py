"""What experiments/results keeps of runs is a table's folder: they need not be made again."""

import json
import tarfile
from pathlib import Path

from care_jax.sweep.reuse import finished_in
from experiments import benchmark
from experiments.finished import FinishedTable

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


def test_the_records_of_the_benchmark_are_runs_that_can_be_taken_over(tmp_path, capsys):
    with tarfile.open(RESULTS / "digits_benchmark_records.tar.gz") as records:
        records.extractall(tmp_path, filter="data")
    folder = tmp_path / "benchmark_records"
    table, tries = finished_in(folder), finished_in(folder / "tuning")
    assert "is not taken over" not in capsys.readouterr().err
    written = json.loads((RESULTS / "digits_benchmark.json").read_text())["rows"]
    assert {run.workdir.name.rpartition("_seed_")[0] for run in table} == set(written)
    some = FinishedTable(folder, only=("simclr", "simclr_care"))
    assert some.against == "simclr" and all(list(seeds) == ["0", "1", "2"] for seeds in some.folders.values())
    for name, row in written.items():
        summaries = [json.loads((folder / f"{name}_seed_{seed}" / "summary.json").read_text()) for seed in range(3)]
        assert [one["params_sha256"] for one in row["runs"]] == [one["params_sha256"] for one in summaries]
    assert {run.config.seed for run in tries} == {benchmark.TUNING_SEED}
    assert len(tries) >= 3 * len(written)
