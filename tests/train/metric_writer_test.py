"""Rows reach their file, or the run hears of it; a damaged file keeps its readable rows."""

import json
import os
from pathlib import Path

import pytest

from care_jax import storage
from care_jax.train.metric_writer import MetricWriter, read_metrics
from tests.full_disk import no_file_beyond


def _rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_rows_of_steps_that_are_made_again_go(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"loss": step / 2})
    with MetricWriter(tmp_path, start_step=2) as writer:
        writer.write(3, {"loss": 9.0})
    assert _rows(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 9.0}]
    assert read_metrics(tmp_path) == _rows(tmp_path)


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_row_that_cannot_be_written_is_raised_once_with_its_file(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"loss": 0.5})
    with no_file_beyond(30), pytest.raises(OSError, match="File too large") as caught, writer:
        writer.write(2, {"loss": 0.5})
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


def test_sync_flushes_and_notices_that_the_file_is_gone(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    with MetricWriter(tmp_path) as writer:
        writer.write(1, {"loss": 0.5})
        assert (tmp_path / "metrics.jsonl").stat().st_ino not in flushed[2:]  # not each row
        writer.sync()
        assert flushed[-1] == (tmp_path / "metrics.jsonl").stat().st_ino
        (tmp_path / "metrics.jsonl").unlink()
        with pytest.raises(FileNotFoundError, match="removed or replaced"):
            writer.sync()
        (tmp_path / "metrics.jsonl").write_text("")
        with pytest.raises(FileNotFoundError, match="removed or replaced"):
            writer.sync()


GOOD = b'{"step": 1, "loss": 0.5}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b"\0\0\0\0",
        b"no json",
        b'{"loss": 0.5}',
        b'{"step": NaN, "loss": 0.5}',
        b'{"step": "2", "loss": 0.5}',
        b'{"step": 2.5, "loss": 0.5}',
        b'{"step": true, "loss": 0.5}',
        b'{"step": 2, "loss": "low"}',
        b'{"step": 2, "loss": [1]}',
        b"[1, 2]",
        b"3",
        b"null",
        b"",
        b"[" * 100_000,
        b"9" * 5000,
    ],
)
def test_a_damaged_line_keeps_the_others_and_the_file(tmp_path, line):
    damaged = GOOD + line + b"\n" + GOOD.replace(b"1", b"3")
    (tmp_path / "metrics.jsonl").write_bytes(damaged)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 3]
    said = []
    with MetricWriter(tmp_path, start_step=3, warn=said.append):
        pass
    assert [row["step"] for row in _rows(tmp_path)] == [1, 3]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged
    assert len(said) == 1 and "1 of its lines can't be read, the first is line 2; its 2 readable rows" in said[0]


def test_a_folder_in_its_place_is_set_aside(tmp_path):
    said = []
    for _ in range(2):
        (tmp_path / "metrics.jsonl").mkdir()
        assert read_metrics(tmp_path) == []
        with MetricWriter(tmp_path, warn=said.append) as writer:
            writer.write(1, {"loss": 0.5})
        (tmp_path / "metrics.jsonl").unlink()
    assert [line.rpartition(" is ")[2] for line in said] == ["metrics.jsonl.damaged now", "metrics.jsonl.damaged-1 now"]


@pytest.mark.parametrize("rest", [b"", b'{"step": 2, "lo', b"\xc3", b'{"step": 2}'])
def test_a_last_line_cut_short_by_a_kill_is_no_damage(tmp_path, rest):
    (tmp_path / "metrics.jsonl").write_bytes(GOOD + rest)
    said = []
    with MetricWriter(tmp_path, start_step=2, warn=said.append) as writer:
        writer.write(3, {"loss": 1.0})
    assert [row["step"] for row in _rows(tmp_path)] == ([1, 2, 3] if rest.endswith(b"}") else [1, 3])
    assert not said


def test_processes_that_do_not_write_touch_nothing(tmp_path):
    with MetricWriter(tmp_path, enabled=False) as writer:
        writer.write(1, {"loss": 0.5})
        writer.sync()
    assert not list(tmp_path.iterdir())


def test_the_file_is_replaced_whole(tmp_path, monkeypatch):
    (tmp_path / "metrics.jsonl").write_bytes(GOOD)
    monkeypatch.setattr(storage, "replace_file", _full)
    with pytest.raises(OSError, match="No space"):
        MetricWriter(tmp_path, start_step=0)
    assert (tmp_path / "metrics.jsonl").read_bytes() == GOOD
