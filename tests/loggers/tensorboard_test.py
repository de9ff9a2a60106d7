"""What TensorBoard finds in its files, run by run; and that a full disk ends TensorBoard alone."""

import json
import struct
import threading
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from care_jax import loggers
from care_jax.evaluate import plots
from care_jax.loggers import Final
from care_jax.train.metric_writer import MetricWriter
from tests.full_disk import no_file_beyond

SETTINGS = {"seed": 3, "loss.method": "simclr", "data.std": (0.5, 0.25), "data.root": None, "model.remat": False}


def _events(file: Path) -> list[Event]:
    """As TensorBoard reads them: a length, its checksum, that many bytes, their checksum."""
    content, events = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def _files(workdir: Path) -> list[list[Event]]:
    files = (workdir / "tensorboard").iterdir()
    return [_events(file) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]


def _scalars(events: list[Event]) -> list[tuple[int, str, float]]:
    values = [(event.step, value) for event in events for value in event.summary.value]
    return [(step, value.tag, value.simple_value) for step, value in values if value.HasField("simple_value")]


def _sessions(events: list[Event]) -> list[HParamsPluginData]:
    values = [value for event in events for value in event.summary.value]
    of_plugin = [value.metadata.plugin_data for value in values if value.metadata.plugin_data.plugin_name == "hparams"]
    return [HParamsPluginData.FromString(data.content) for data in of_plugin]


def test_rows_in_groups_of_each_start_in_a_file_that_hides_what_is_made_again(tmp_path):
    for start, steps in ((0, (1, 2, 3)), (1, (2,))):  # within the second
        with (
            loggers.opened(["tensorboard"], tmp_path, SETTINGS) as opened,
            MetricWriter(tmp_path, start_step=start, loggers=opened) as writer,
        ):
            for step in steps:
                writer.write(step, {"loss": step / 2 + start, "images_per_second": 1.0})
            writer.write(steps[-1], {"knn_top1": 50.0}, "evaluate")
    first, second = _files(tmp_path)
    for events, start in ((first, 0), (second, 1)):
        assert [event.file_version for event in events[:2]] == ["brain.Event:2"] * 2
        assert events[2].session_log.status == SessionLog.START and events[2].step == start + 1
    rows = [(step, tag, value) for step in (1, 2, 3) for tag, value in _of_step(step / 2)]
    assert _scalars(first) == [*rows, (3, "evaluate/knn_top1", 50.0)]
    assert _scalars(second) == [*((2, tag, value) for tag, value in _of_step(2.0)), (2, "evaluate/knn_top1", 50.0)]


def _of_step(loss: float) -> list[tuple[str, float]]:
    return [("train/loss", loss), ("speed/images_per_second", 1.0)]


def test_the_end_has_settings_numbers_and_pictures(tmp_path):
    figure, axis = plots.panel(2.0, 1.0)
    axis.plot([1, 2])
    png = plots.png(figure)
    with loggers.opened(["tensorboard"], tmp_path, SETTINGS) as opened:
        opened.begin(0)
        opened.finish(Final(7, {"knn_top1": 97.0, "images_per_second": 3.5}, {"Training: loss": png}, ()))
    (events,) = _files(tmp_path)
    # The speed of the whole run is no last point of that of its rows.
    assert _scalars(events) == [(7, "final/knn_top1", 97.0), (7, "final/images_per_second", 3.5)]
    (picture,) = [value for event in events for value in event.summary.value if value.HasField("image")]
    assert picture.tag == "report/Training: loss" and picture.image.encoded_image_string == png
    assert (picture.image.width, picture.image.height) == (192, 96)
    began, ended = _sessions(events)
    settings = began.session_start_info.hparams
    assert settings["seed"].number_value == 3 and settings["loss.method"].string_value == "simclr"
    assert settings["data.std"].string_value == "(0.5, 0.25)" and settings["data.root"].string_value == "None"
    assert settings["model.remat"].HasField("bool_value") and len(settings) == len(SETTINGS)
    assert ended.HasField("session_end_info")


def test_a_full_disk_ends_tensorboard_alone(tmp_path):
    """Its thread died, and the next row waited for it for ever; so did the end."""
    threads, said = threading.active_count(), []
    with (
        loggers.opened(["tensorboard"], tmp_path, {}, warn=said.append) as opened,
        MetricWriter(tmp_path, loggers=opened) as writer,
    ):
        assert threading.active_count() == threads
        (file,) = (tmp_path / "tensorboard").iterdir()
        size = file.stat().st_size
        with no_file_beyond(size + 10):
            writer.write(1, {"loss": 0.5})
            assert len(said) == 1 and "tensorboard gets no more rows of this run (File too large); metrics" in said[0]
        for step in range(2, 50):
            writer.write(step, {"loss": 0.5})
        assert file.stat().st_size <= size + 10
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 50))
    assert len(said) == 1


@pytest.mark.parametrize("when", ["at the start", "at the end"])
def test_tensorboard_is_given_up_whenever_it_fails(tmp_path, monkeypatch, when):
    said = []
    if when == "at the start":
        (tmp_path / "tensorboard").write_text("a file")
    with (
        loggers.opened(["tensorboard"], tmp_path, {}, warn=said.append) as opened,
        MetricWriter(tmp_path, loggers=opened) as writer,
    ):
        writer.write(1, {"loss": 0.5})
        if when == "at the end":
            monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.flush", _full)
    assert len(said) == 1 and said[0].startswith(f"TensorBoard's file in {tmp_path / 'tensorboard'} gets no more rows")
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")
