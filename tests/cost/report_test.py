"""The text for a reader: every figure is there, in units that people read, and what is not known is said."""

import copy
import json

import pytest

from care_jax.cost import report

FOUND = {
    "topology": "v5e:16x16",
    "devices": 256,
    "device": "TPU v5 lite",
    "batch_size": 4096,
    "micro_batches": 2,
    "remat": True,
    "placement": "decode",
    "dtype": "bfloat16",
    "num_examples": 1_281_167,
    "num_examples_source": "the data set's",
    "inputs": "images",
    "effort": 0.0,
    "compiles": True,
    "compile_seconds": 614.2,
    "memory": {
        "arguments": 2**28, "outputs": 4608, "temporaries": 2**31, "program": 2**20, "peak": 9 * 2**28 + 2**20 + 4608,
        "available": 63 * 2**28,
    },
    "operations": {
        "total": 1_200_000_000_000, "needed": 900_000_000_000, "not_counted": {"Solver": 2},
        "by_type": {"bf16": 1_100_000_000_000, "f32": 100_000_000_000},
    },
    "bytes": {"total": 9 * 2**30, "padding": 9 * 2**28, "beyond_cache": 2**30, "cache": 50 * 2**20},
    "compiler": {"operations": 1.0, "bytes": 1.0, "seconds": 0.0241},
    "instructions_in_loops_of_unknown_length": 3,
    "collectives": [
        {"kind": "all-reduce", "type": "bf16", "number": 2, "bytes": 223_308_288},
        {"kind": "all-gather", "type": "f32", "number": 1, "bytes": 256},
    ],
    "floor": {
        "seconds_by_operations": 0.00599, "seconds_by_bytes": 0.0113, "seconds": 0.0113,
        "images_per_second_per_device": 1416.0, "share_of_peak": 0.397,
    },
    "largest": [
        {
            "name": f"while/{'x' * 200}/conv", "kind": "fusion", "result": ["f32[16,56]", "s32[]"], "bytes": 2**28,
            "padding": 0, "times": 2,
        },
        {"name": "bn1/mul", "kind": "copy", "result": [], "bytes": 2**20, "padding": 0, "times": 1},
    ],
    "warnings": ["float64: 2 instructions compute in it, first a/b"],
}  # fmt: skip


def test_every_figure_is_printed():
    text = report.text(FOUND)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 160
    told = """
topology      v5e:16x16: 256 x TPU v5 lite
step          batch 4,096 (16 a device), 2 micro-batches, remat, bfloat16, views made by 'decode'
data          1,281,167 training images (the data set's)
compiles      yes, in 614 s
memory        peak 2.25 GiB of 15.75 GiB (14%): it fits
              arguments 256.0 MiB, temporaries 2.00 GiB, outputs 4.5 KiB, program 1.0 MiB
operations    1,200.0 GFLOP a device in matrix products (1,100.0 in bf16, 100.0 in f32)
              900.0 are needed, the rest is computed again
              without those of calls that the compiler does not show: Solver x 2
bytes         9.00 GiB a device to and from memory, 25% of it padding
              1.00 GiB of arrays that its cache of 50.0 MiB can't hold
              there are loops whose length the program does not say: each counts as one turn
collectives   2 all-reduce  bf16  213.0 MiB (223,308,288 bytes)
              1 all-gather  f32                           256 B
floor         of a step by operations 5.99 ms, by bytes 11.3 ms
at best       1,416 images/s a device, 362,496 together, at 39.7% of the peak
compiler      estimates 24.1 ms, a loop counted once
"""
    assert text.startswith(told.strip())
    assert lines[-3].startswith("largest       256.0 MiB   3%  fusion x 2  f32[16,56] + 1  ...x")
    assert lines[-3].endswith("x/conv") and lines[-2].endswith("bn1/mul")
    assert lines[-1] == "warnings      float64: 2 instructions compute in it, first a/b"
    json.dumps(FOUND)


def test_what_is_not_known_is_said():
    found = copy.deepcopy(FOUND)
    found["memory"]["available"] = None
    found["floor"] = dict.fromkeys(found["floor"])
    found["compiler"]["seconds"] = None
    found["collectives"], found["warnings"] = [], []
    text = report.text(found)
    assert "peak 2.25 GiB of a device's memory, which is not known" in text
    assert "by operations not known, by bytes not known" in text
    assert "the peak of this device is not known: --measure, or --peak_flops and --bandwidth" in text
    assert "at best" not in text and "compiler" not in text.replace("compiler does", "")
    assert "collectives   none" in text and "\nwarnings      none: no float64" in text


def test_what_does_not_fit_and_what_is_pessimistic():
    found = copy.deepcopy(FOUND)
    found["memory"]["available"], found["effort"] = 2**31, -1.0
    text = report.text(found)
    assert "of 2.00 GiB (113%): it DOES NOT FIT" in text
    assert "yes, in 614 s (effort -1: the launched program is faster than these figures)" in text


def test_a_suggestion_says_what_was_tried():
    tried = [
        {"batch_size": 256, "fits": True, "peak": 2**30, "reason": ""},
        {"batch_size": 4096, "fits": False, "peak": 2**35, "reason": "RESOURCE_EXHAUSTED: much"},
        {"batch_size": 2048, "fits": False, "peak": None, "reason": "RESOURCE_EXHAUSTED: scoped"},
    ]
    assert report.suggestion(tried, 256).splitlines() == [
        "tried         batch     256: peak 1.00 GiB",
        "              batch   4,096: peak 32.00 GiB, does not fit",
        "              batch   2,048: RESOURCE_EXHAUSTED: scoped, does not fit",
        "suggestion    --config.train.batch_size=256 (the learning rate does not follow by itself)",
    ]
    assert "no batch fits: more devices" in report.suggestion(tried[1:], None)


@pytest.mark.parametrize(("number", "text"), [(0.0213, "21.3 ms"), (4.4e-6, "0.00440 ms"), (12.5, "12,500 ms")])
def test_milliseconds_have_three_digits_that_count(number, text):
    assert report.milliseconds(number) == text


def test_clouds_are_called_clouds():
    text = report.text(FOUND | {"inputs": "clouds"})
    assert "1,281,167 training clouds (the data set's)" in text and "clouds/s a device" in text
