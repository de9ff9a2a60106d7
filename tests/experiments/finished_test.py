"""Which finished runs a table has, and what they are compared with."""

import pytest

from care_jax.command_line import UsageError
from care_jax.evaluate import plots
from experiments.finished import FinishedTable


def _run(folder, done=True):
    folder.mkdir(parents=True)
    if done:
        (folder / "summary.json").write_text("{}")


def test_runs_in_order_and_what_is_not_finished_is_said(tmp_path, capsys):
    for name in ("b_seed_10", "b_seed_2", "a_seed_0"):
        _run(tmp_path / name)
    _run(tmp_path / "c_seed_0", done=False)
    for name in ("b_seed_2_old", "b_seed_"):  # copies by hand are no further seeds
        _run(tmp_path / name)
    table = FinishedTable(tmp_path, "b")
    assert {row: list(seeds) for row, seeds in table.folders.items()} == {"a": ["0"], "b": ["2", "10"]}
    assert table.against == "b"
    said = capsys.readouterr().err
    assert "c_seed_0 has no summary.json: it is not finished, and is passed over" in said
    assert "b_seed_2_old ends in no seed: it is no run of the table, and is passed over" in said


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"no finished run in .*; --workdir is a table's folder"):
        FinishedTable(tmp_path)
    _run(tmp_path / "a_seed_0")
    with pytest.raises(UsageError, match=r"--against=b is no row of .*; there are a"):
        FinishedTable(tmp_path, "b")
    for number in range(len(plots.PALETTE)):
        _run(tmp_path / f"{number}_seed_0")
    with pytest.raises(UsageError, match="has 8 rows, more than the 7 that colours tell apart"):
        FinishedTable(tmp_path, "a")


@pytest.mark.slow
def test_runs_share_what_is_compiled_and_other_data_is_refused(table_of_images, table_of_clouds, tmp_path):
    one, other = FinishedTable(table_of_images).runs()
    assert one.embedded.embedder is other.embedded.embedder
    assert one.embedded.experiment.dataset is other.embedded.experiment.dataset
    (tmp_path / "care_seed_0").symlink_to(table_of_images / "care_seed_0")
    (tmp_path / "clouds_seed_0").symlink_to(table_of_clouds / "care_seed_0")
    with pytest.raises(UsageError, match="clouds_seed_0 is of other data or sizes than the runs before it"):
        list(FinishedTable(tmp_path, "care").runs())
