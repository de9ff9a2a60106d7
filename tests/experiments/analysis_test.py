"""The table, the sentences and the file of an analysis."""

import json
import math
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from care_jax.evaluate import plots
from care_jax.evaluate.measure import Measure
from experiments import analysis
from experiments.finished import FinishedTable

MEASURES = {
    "share": Measure("", better="higher", heading="share"),
    "error": Measure("", unit="%", better="lower", heading="error", decimals=1),
}
NUMBERS = {
    "lambda_0": {"0": {"share": 0.1, "error": 9.0}, "1": {"share": 0.3, "error": 9.5}},
    "lambda_0.1": {"0": {"share": 0.8, "error": 9.0}, "1": {"share": 0.9, "error": 9.4}},
    "lambda_1": {"0": {"share": math.nan, "error": 12.0}, "1": {"share": 0.9, "error": 14.0}},
}


def test_a_line_a_row_and_a_dash_for_what_one_seed_lacks():
    assert analysis.markdown(MEASURES, NUMBERS).splitlines() == [
        "| row | n | share ↑ | error (%) ↓ |",
        "|---|---|---|---|",
        "| lambda_0 | 2 | 0.200 ± 0.141 | 9.2 ± 0.4 |",
        "| lambda_0.1 | 2 | 0.850 ± 0.071 | 9.2 ± 0.3 |",
        "| lambda_1 | 2 | – | 13.0 ± 1.4 |",
    ]


def test_sentences_say_what_the_seeds_make_of_a_difference():
    first, second = analysis.verdicts(MEASURES, ("share", "error"), NUMBERS, "lambda_0")
    assert first == (
        "lambda_0.1 against lambda_0: share 0.850 ± 0.071 against 0.200 ± 0.141, better, beyond the spread of the "
        "seeds; error 9.2 ± 0.3 against 9.2 ± 0.4 %, better, not beyond the spread of the seeds."
    )
    assert second.endswith(
        "share – against 0.200 ± 0.141, not measured in every run; error 13.0 ± 1.4 against 9.2 ± 0.4 %, worse, beyond "
        "the spread of the seeds."
    )
    assert analysis.verdicts(MEASURES, ("share",), NUMBERS, "") == []


@pytest.mark.parametrize(
    ("ours", "theirs", "better", "said"),
    [
        ([1.0], [2.0], "higher", "worse (a single seed tells no spread)"),
        ([1.0, 1.0], [1.0, 1.0], "higher", "the same"),
        ([2.0, 2.1], [1.0, 1.1], "", "higher, beyond the spread of the seeds"),
        ([1.0, 3.0], [1.0, 1.0], "lower", "worse, not beyond the spread of the seeds"),
    ],
)
def test_a_difference(ours, theirs, better, said):
    assert analysis.judged(np.array(ours), np.array(theirs), better) == said


@pytest.mark.slow
def test_the_command_takes_some_rows_and_says_what_its_files_lose(tmp_path):
    """Records of the benchmark, with which no run is needed."""
    records = Path(__file__).parents[2] / "experiments" / "results" / "digits_benchmark_records.tar.gz"
    with tarfile.open(records) as opened:
        opened.extractall(tmp_path, filter="data")
    folder = tmp_path / "benchmark_records"
    for number in range(2):  # a table of more rows than there are colours
        shutil.copytree(folder / "byol_seed_0", folder / f"more_{number}_seed_0")
    shutil.copytree(folder / "simclr_seed_0", folder / ".simclr_seed_0.copy")

    def run(*arguments):
        command = [sys.executable, "-m", "experiments.course", f"--workdir={folder}", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    refused = run()
    assert refused.returncode == 2 and "choose some, --only=" in refused.stderr
    first = run("--only=byol,simclr,byol_care")
    assert first.returncode == 0 and first.stderr == "", first.stderr
    assert [line.split(" | ")[0] for line in first.stdout.splitlines()[2:5]] == ["| byol", "| byol_care", "| simclr"]
    assert "byol against simclr: " in first.stdout
    second = run("--only=byol,simclr")
    assert f"{folder}: course.json and course.png are written without what was there of byol_care; " in second.stderr


def test_the_file_has_null_where_there_is_no_number_and_names_what_was_read(tmp_path):
    (tmp_path / "a_seed_0").mkdir()
    (tmp_path / "a_seed_0" / "summary.json").write_text("{}")
    table = FinishedTable(tmp_path, "a")
    table.used.append({"row": "a", "seed": "0", "folder": "x", "step": 3, "params_sha256": "ab"})
    numbers = {"a": {"0": {"share": math.nan, "error": 2.0}}}
    details = {"array": np.arange(2), 0.5: [np.float32(1.0), math.inf]}
    found = analysis.Analysis(MEASURES, numbers, (), plots.panel()[0], details)
    read = json.loads(analysis.as_json("x", table, found, ["said"]))
    assert read["runs"] == table.used and read["said"] == ["said"] and read["against"] == "a"
    assert read["numbers"] == {"a": {"0": {"share": None, "error": 2.0}}}
    assert read["summary"]["a"]["error"] == {"mean": 2.0, "std": None, "n": 1}
    assert read["details"] == {"array": [0, 1], "0.5": [1.0, None]}
    assert read["measures"]["error"]["unit"] == "%"
