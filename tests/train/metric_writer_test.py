"""Rows reach their file, or the run hears of it; a damaged file keeps its readable rows; TensorBoard never matters."""

import contextlib
import json
import os
import resource
import struct
import threading
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from care_jax import storage
from care_jax.train.metric_writer import MetricWriter, read_metrics


def _rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def _no_file_beyond(size: int):
    """As a full disk or a quota would, it stops a write in the middle."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_rows_of_steps_that_are_made_again_go(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"loss": step / 2})
    with MetricWriter(tmp_path, start_step=2) as writer:
        writer.write(3, {"loss": 9.0})
    assert _rows(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 9.0}]
    assert read_metrics(tmp_path) == _rows(tmp_path)


def _events(file: Path) -> list[Event]:
    """As TensorBoard reads them: a length, its checksum, that many bytes, their checksum."""
    content, events = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_tensorboard_gets_the_same_rows(tmp_path):
    """A run that is started again within the second gets its own file, which hides what is made again."""
    for start, steps in ((0, (1, 2, 3)), (1, (2,))):
        with MetricWriter(tmp_path, start_step=start) as writer:
            for step in steps:
                writer.write(step, {"loss": step / 2 + start, "speed": 1.0})
    files = sorted((tmp_path / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    first, second = map(_events, files)
    for events, start in ((first, 0), (second, 1)):
        assert [event.file_version for event in events[:2]] == ["brain.Event:2"] * 2
        assert events[2].session_log.status == SessionLog.START and events[2].step == start + 1
    rows = [(event.step, event.summary.value[0].tag, event.summary.value[0].simple_value) for event in first[3:]]
    assert rows == [(step, tag, value) for step in (1, 2, 3) for tag, value in (("loss", step / 2), ("speed", 1.0))]
    assert [event.summary.value[0].simple_value for event in second[3:]] == [2.0, 1.0]


def test_a_full_disk_ends_tensorboard_alone(tmp_path):
    """Its thread died, and the next row waited for it for ever; so did the end."""
    threads, said = threading.active_count(), []
    with MetricWriter(tmp_path, warn=said.append) as writer:
        assert threading.active_count() == threads
        (file,) = (tmp_path / "tensorboard").iterdir()
        size = file.stat().st_size
        with _no_file_beyond(size + 10):
            writer.write(1, {"loss": 0.5})
            assert len(said) == 1 and "tensorboard can't be written (File too large): TensorBoard gets no" in said[0]
        for step in range(2, 50):
            writer.write(step, {"loss": 0.5})
        assert file.stat().st_size <= size + 10
    assert [row["step"] for row in _rows(tmp_path)] == list(range(1, 50))
    assert len(said) == 1


@pytest.mark.parametrize("when", ["at the start", "at the end"])
def test_tensorboard_is_given_up_whenever_it_fails(tmp_path, monkeypatch, when):
    said = []
    if when == "at the start":
        (tmp_path / "tensorboard").write_text("a file")
    with MetricWriter(tmp_path, warn=said.append) as writer:
        writer.write(1, {"loss": 0.5})
        if when == "at the end":
            monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.flush", _full)
    assert len(said) == 1 and "TensorBoard gets no more rows" in said[0]
    assert len(_rows(tmp_path)) == 1


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_row_that_cannot_be_written_is_raised_once_with_its_file(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"loss": 0.5})
    with _no_file_beyond(30), pytest.raises(OSError, match="File too large") as caught, writer:
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
