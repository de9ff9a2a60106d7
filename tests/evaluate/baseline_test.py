"""Whose numbers stand beside a run's, and which of them do not compare."""

import doctest
import gzip
import json

import pytest

from care_jax.command_line import UsageError
from care_jax.evaluate import baseline
from care_jax.evaluate.evaluators import EVALUATORS
from care_jax.workdir import plain

NUMBERS = {"knn_top1": 50.0, "linear_probe_top1": 60.0, "wahba_mean": 0.5, "alignment": -0.9, "steps": 24}


@pytest.fixture
def make(tmp_path, tiny_config):
    """`make(name, **settings)`: the folder of a finished run."""

    def folder(name, numbers=NUMBERS, **settings):
        workdir = tmp_path / name
        workdir.mkdir(parents=True)
        config = plain(tiny_config(**{"train__num_steps": 24, **settings}))
        (workdir / "summary.json").write_text(json.dumps({**numbers, "config": config}))
        (workdir / "data.json.gz").write_bytes(gzip.compress(b"digits"))
        return workdir

    return folder


@pytest.fixture
def config(tiny_config):
    return tiny_config(train__num_steps=24, equivariance__weight=0.5)


def test_all_numbers_of_a_run_that_is_judged_alike(make, config):
    ours, theirs = make("ours"), make("simclr", equivariance__weight=0.0, seed=3, evaluate__monitor=("knn",))
    found = baseline.read(theirs, ours, config)
    assert found == ("simclr", NUMBERS, ())


@pytest.mark.parametrize(
    ("settings", "left_out", "said"),
    [
        ({"evaluate__knn_k": 7}, {"knn_top1"}, "evaluated otherwise: knn (evaluate.knn_k is 7 there, 5 here)"),
        ({"evaluate__probe__epochs": 7}, {"linear_probe_top1"}, "evaluated otherwise: linear_probe"),
        ({"augment__equivariance__hue": 0.4}, {"wahba_mean"}, "equivariance, motion, term_space, parameters (augment"),
        ({"augment__invariance__hue": 0.4}, {"alignment"}, "augment.invariance.hue is 0.4 there"),
        ({"evaluate__num_augmentations": 7}, {"wahba_mean"}, "evaluate.num_augmentations is 7 there"),
        ({"evaluate__seed": 7}, set(NUMBERS) - {"steps"}, "evaluate.seed is 7 there"),
        ({"data__test_fraction": 0.3}, set(NUMBERS), "it saw other data: data.test_fraction is 0.3 there, 0.1 here"),
        ({"data__name": "cifar10"}, set(NUMBERS), "it saw other data: data.name is 'cifar10' there"),
    ],
)
def test_what_was_judged_otherwise_is_left_out_and_said(make, config, settings, left_out, said):
    found = baseline.read(make("simclr", **settings), make("ours"), config)
    assert set(NUMBERS) - set(found.numbers) == left_out
    assert len(found.notes) == 1 and said in found.notes[0]


def test_another_record_of_the_data_and_other_steps_are_said(make, config):
    ours, theirs = make("ours"), make("simclr", {**NUMBERS, "steps": 12})
    assert baseline.read(theirs, ours, config, 24).notes == ("simclr is of 12 steps, this run of 24",)
    assert baseline.read(theirs, ours, config, 12).notes == baseline.read(theirs, ours, config).notes == ()
    (theirs / "data.json.gz").write_bytes(gzip.compress(b"other digits"))
    assert baseline.read(theirs, ours, config).numbers == {}
    # Whole, but for what is packed in it; no gzip at all; not there: none of them tells anything.
    for damaged in (b"damaged", gzip.compress(b"digits" * 99)[:10] + b"\x07" * 40, None):
        (theirs / "data.json.gz").unlink() if damaged is None else (theirs / "data.json.gz").write_bytes(damaged)
        found = baseline.read(theirs, ours, config)
        (note,) = found.notes
        assert found.numbers["knn_top1"] == 50.0 and note.startswith("whether simclr saw the same data is not known: ")


def _record(files, labels=None, pixels=""):
    part = {"examples": 9, "labels": labels or {}} | ({"shape": [8, 8, 3], "pixels": pixels} if pixels else {})
    header = {"version": 1, "parts": dict.fromkeys(("pretrain", "train", "test"), part), "files": {}}
    return gzip.compress("\n".join([json.dumps(header), *map(json.dumps, files)]).encode())


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        (_record([["a", ["a.png"], [1]]]), _record([["a", ["b.png"], [1]]]), False),
        (_record([["a", ["a.png"], [1]]]), _record([["a", ["a.png"], [1]]]), True),
        # A file that can't be decoded is no example of a set in memory.
        (_record([["a", ["a.png"], [1]]], {"class": "x"}), _record([["a", ["a.png"], [1]]], {"class": "y"}), True),
        (_record([], {"class": "x"}, "1"), _record([], {"class": "x"}, "2"), True),
        (_record([], {"class": "x"}, "1"), _record([], {"label": "x"}), True),  # of before
        (_record([], {"class": "x"}, "1"), _record([], {"class": "y"}, "2"), False),
        (_record([], {}, "1"), _record([], {}, "2"), None),
        (_record([], {}, "1"), gzip.compress(b"3"), None),
    ],
    ids=["other files", "same files", "a broken one", "other sizes", "of before", "other labels", "pixels", "damaged"],
)
@pytest.mark.parametrize(
    "setting", [{"data__image_size": 32}, {"data__stored_size": 32}, {"augment__placement": "decode"}]
)
def test_where_pixels_differ_in_size_the_rest_of_the_record_tells(make, config, here, there, same, setting):
    ours, theirs = make("ours"), make("simclr", **setting)
    (ours / "data.json.gz").write_bytes(here)
    (theirs / "data.json.gz").write_bytes(there)
    found = baseline.read(theirs, ours, config)
    said = {False: "its record of the data is another", None: "whether simclr saw the same data is not known: without"}
    assert bool(found.numbers) is (same is not False)
    assert not found.notes if same else said[same] in found.notes[0] and len(found.notes) == 1


def test_measures_of_unusual_shares_of_the_labels_are_left_out_too(make, config):
    numbers = {**NUMBERS, "linear_probe_5_percent_top1": 40.0, "finetune_5_percent_top1": 30.0}
    theirs = make("simclr", numbers, evaluate__probe__epochs=7, augment__invariance__hue=0.4)
    found = baseline.read(theirs, make("ours"), config)
    assert set(numbers) - set(found.numbers) == {
        "linear_probe_top1", "alignment", "linear_probe_5_percent_top1", "finetune_5_percent_top1"
    }  # fmt: skip


def test_a_wrong_folder_is_one_line(make, config, tmp_path):
    ours, empty, damaged = make("ours"), tmp_path / "empty", make("damaged")
    empty.mkdir()
    (damaged / "summary.json").write_text('{"knn_top1": ')
    for folder, said in (
        (tmp_path / "none", "there is no such folder"),
        (ours, "is the run that is evaluated"),
        (empty, "has no summary.json: give the folder of a run that is finished"),
        (damaged, "can't be read"),
    ):
        with pytest.raises(UsageError, match=said) as raised:
            baseline.read(folder, ours, config)
        assert str(raised.value).startswith(f"--baseline={folder}") and "\n" not in str(raised.value)
    (damaged / "summary.json").write_text('{"steps": 1}')
    assert "does not say which settings" in baseline.read(damaged, ours, config).notes[0]


def test_a_run_of_a_sweep_finds_the_one_without_a_term(make, config, tmp_path):
    ours = make("sweep/weight=0.5/seed=0", equivariance__weight=0.5)
    make("sweep/weight=0/seed=1", equivariance__weight=0.0, seed=1)
    make("sweep/weight=0,other/seed=0", equivariance__weight=0.0, loss__temperature=0.2)
    make("sweep/weight=0.1/seed=0", equivariance__weight=0.1)
    (damaged := make("sweep/a/seed=0") / "summary.json").write_text("{")
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    assert damaged and baseline.find(ours, config) is None
    make("sweep/weight=0/seed=0", equivariance__weight=0.0)
    found = baseline.find(ours, config)
    assert found.name == "weight=0" and found.numbers == NUMBERS
    assert found.notes == (
        "the baseline is weight=0, the run beside this one that differs in equivariance.weight=0 alone",
    )
    config.equivariance.num_groups = 2
    assert "differs in equivariance.weight=0, equivariance.num_groups=4 alone" in baseline.find(ours, config).notes[0]
    config.equivariance.weight = 0.0
    assert baseline.find(tmp_path / "sweep/weight=0/seed=0", config) is None
    config.equivariance.weight = 0.5
    (tmp_path / "sweep" / "sweep.json").unlink()  # runs that only happen to lie beside each other
    assert baseline.find(ours, config) is None


def test_and_so_does_one_of_a_table(make, config, tmp_path):
    ours = make("table/care_seed_0", equivariance__weight=0.5)
    make("table/simclr_seed_0", equivariance__weight=0.0)
    (tmp_path / "table" / "table.md").write_text("|")
    assert baseline.find(ours, config).name == "simclr_seed_0"


def test_which_evaluators_read_a_setting():
    assert not doctest.testmod(baseline).failed
    for setting in ("evaluate.knn_k", "evaluate.probe.epochs", "augment.equivariance.hue", "evaluate.seed"):
        assert set(baseline.read_by(setting)) <= set(EVALUATORS) and baseline.read_by(setting)
    assert baseline.read_by("evaluate.seed") == tuple(EVALUATORS)
