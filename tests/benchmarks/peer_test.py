"""The tables, the plan and the command line of `benchmarks.peer`."""

import importlib.util
import json
import time

import pytest

from benchmarks import peer, tables, workers
from benchmarks.peer import Result
from benchmarks.settings import Case

OURS = Case("ours", "resnet18", "float32", 32)
RESULTS = [
    Result(OURS, 30.0, [2.0, 1.0, 3.0], views=0.02),
    Result(OURS._replace(kind="official"), 5.0, [4.0, 5.0, 3.5]),
]


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_row_says_median_spread_rate_and_ratio():
    header, _, ours, official = cells(peer.comparison(RESULTS))
    assert len(header) == len(ours) == len(official)
    assert ours[1:] == ["care_jax", "float32", "32", "3", "2.00", "1.00 – 3.00", "16", "1.00", "30"]
    assert official[1:] == ["PyTorch, the official way", "float32", "32", "3", "4.00", "3.50 – 5.00", "8", "2.00", "5"]


def test_shares_are_of_the_measured_rates():
    # 13.3 GFLOP an image, 32 images, 2 s: 0.213 TFLOP/s.
    header, _, row = cells(peer.shares(RESULTS, {"float32": 0.426e12, "copy": 1e12}))
    assert len(header) == len(row)
    named = dict(zip(header, row, strict=True))
    assert named["views, share of the step"] == "1.0%"
    assert named["TFLOP/s"] == "0.213"
    assert named["share of the matrix product's"] == "50%"
    assert (named["floor s"], named["step over floor"]) == ("1.00", "2.00")


def test_the_report_has_both_tables_and_its_origin():
    measured = {"device": {"name": "toaster", "platform": "cpu"}, "float32": 1e12, "copy": 1e10}
    text = peer.report(RESULTS, measured)
    assert text.count("|---") and "toaster" in text and "commit" in text and "1 TFLOP/s in float32" in text


def test_a_gpu_gets_every_side_and_a_cpu_the_official_way():
    flags = peer.parse([])
    on_cpu = peer.plan(flags, on_gpu=False)
    assert [[(c.kind, c.model, c.batch_size) for c in group] for group in on_cpu] == [
        [("ours", model, 32), ("official", model, 32)] for model in ("resnet18", "resnet50")
    ]
    on_gpu = [case for group in peer.plan(flags, on_gpu=True) for case in group]
    assert {(c.kind, c.dtype) for c in on_gpu} == set(peer.GPU_ORDER)
    assert len(on_gpu) == 2 * len(peer.GPU_ORDER) and {c.batch_size for c in on_gpu} == {256}


@pytest.mark.parametrize("flag", ["--steps=4", "--batch_size=24", "--models=resnet51"])
def test_wrong_flags_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        peer.parse([flag])
    assert flag.split("=")[1] in capsys.readouterr().err


def test_without_torch_one_line_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert peer.main([]) == 2
    assert "pip install -e .[benchmarks]" in capsys.readouterr().out


def test_nothing_is_begun_after_the_budget(capsys):
    assert peer.run([[OURS]], steps=5, on_gpu=False, deadline=time.monotonic() - 1) == []
    assert "skipped, out of time: resnet18, batch 32, care_jax" in capsys.readouterr().err


def test_turns_end_when_the_time_does(capsys):
    class Slow:
        case = OURS

        def ask(self, command):
            if command == "step":
                time.sleep(0.01)
            return 1.0

    (result,) = peer.take_turns([Slow()], steps=100, warm_up=1, deadline=time.monotonic() + 5.1)
    assert 1 <= len(result.times) < 100
    assert "out of time after" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_that_dies_says_why():
    worker = workers.Worker(Case("ours", "resnet51"), time.monotonic() + 60)
    try:
        with pytest.raises(workers.WorkerFailed, match="resnet51"):
            worker.ask("prepare")
    finally:
        worker.close()


def test_a_row_that_does_not_fit_its_header_is_refused():
    with pytest.raises(ValueError, match="a row of 1 cells under a header of 2"):
        tables.table(["a", "b"], [[1]])


def test_tables_are_appended_to_a_file(tmp_path, capsys):
    path = tmp_path / "out.md"
    for text in ("one", "two"):
        tables.deliver(text, str(path))
    assert path.read_text().split() == ["one", "two"] == capsys.readouterr().out.split()
    assert json.dumps(tables.provenance("cpu", ["numpy", "no-such-package"]))
