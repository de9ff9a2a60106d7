"""Which runs are one group, what may be compared, and what the table and the page show of it."""

import doctest
import gzip
import json
import math
import os
import re

import pytest

from care_jax.command_line import UsageError
from care_jax.compare import curves, groups
from care_jax.compare.comparison import compare
from care_jax.experiment import continuation


def _rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_seeds_are_one_row_with_the_best_marked(make_run, tmp_path):
    for weight, numbers in ((0.0, (50.0, 52.0)), (0.5, (51.0, 54.0)), (1.0, (70.0, 71.0))):
        for seed, number in enumerate(numbers):
            wahba = {"wahba_mean": 0.5 - weight / 10 if weight < 1 else math.nan, "hue_probe_top1": None}
            make_run(f"w{weight:g}_seed_{seed}", {"knn_top1": number, **wahba}, equivariance__weight=weight, seed=seed)
    comparison = compare([str(tmp_path)])
    assert comparison.fairness.notes == () and comparison.notes == ()
    head, _, *rows = _rows(comparison.markdown())
    assert head == ["run", "equivariance.weight", "runs", "kNN (%) ↑", "Wahba, mean ↓"]
    assert rows[0] == ["w0", "0.0", "2", "51.0 ± 1.4 (2)", "0.5000 ± 0.0000 (2)"]
    assert rows[1] == ["w0.5", "0.5", "2", "52.5 ± 2.1 (2)", "**0.4500 ± 0.0000 (2)**"]
    assert rows[2] == ["w1", "1.0", "2", "**70.5 ± 0.7 (2)**", "–"]
    (column,) = [line[-1] for line in _rows(comparison.markdown(["seconds"]))[2:3]]
    assert column == "9 ± 0 (2)"  # neither more nor less is better
    with pytest.raises(UsageError, match=r"--measures=knn is in no summary.json here; there are knn_top1, "):
        comparison.markdown(["knn"])


def test_what_the_seeds_do_not_tell_apart_is_said(make_run, tmp_path):
    for weight, numbers in ((0.0, (50.0, 52.0)), (0.5, (51.0, 54.0))):
        for seed, number in enumerate(numbers):
            make_run(f"w{weight:g}/{seed}", {"knn_top1": number}, equivariance__weight=weight, seed=seed)
    rows = _rows(compare([str(tmp_path)]).markdown(["knn_top1"]))
    assert [row[-1] for row in rows[2:]] == ["51.0 ± 1.4 (2) ≈", "**52.5 ± 2.1 (2)**"]


def test_names_are_the_shortest_that_tell_runs_apart(make_run, tmp_path):
    """Also where settings and seed are the same, which makes them no two seeds."""
    paths = [make_run("a/run"), make_run("b/run"), make_run("c/d", train__num_steps=7, train__log_every=9)]
    comparison = compare(map(str, paths))
    assert [one.name for one in comparison.groups] == ["a/run", "b/run", "d"]
    assert comparison.notes == (
        f"{paths[1]} and {paths[0]} have the same settings and the same seed, 0: no seeds of one group",
    )
    assert list(comparison.differing) == ["train.num_steps"]


def test_runs_that_are_not_finished_are_shown_and_said(make_run, tmp_path):
    a = make_run("a", None)
    make_run("b", {"steps": 4}, seed=1)
    comparison = compare([str(tmp_path)])
    assert f"not finished, their curves are shown: {a} (step 6)" in comparison.notes
    assert any("its numbers are of step 4, its curves go on to 6" in note for note in comparison.notes)
    assert comparison.notes[-1].startswith("one run alone")
    assert _rows(comparison.markdown(["knn_top1"]))[2][1:] == ["1 of 2 finished", "50.0 (1)"]


@pytest.mark.parametrize(
    ("settings", "told", "unmarked", "marked"),
    [
        ({"data__name": "cifar10"}, "on different data sets: digits (a), cifar10 (b)", "knn_top1", "images_per_second"),
        ({"evaluate__knn_k": 9}, "evaluate.knn_k: 5 (a), 9 (b)): the measures of knn do", "knn_top1", "wahba_mean"),
        ({"evaluate__center_fraction": 0.5}, "all measures do not compare", "wahba_mean", "images_per_second"),
        ({"augment__equivariance__hue": 0.5}, "equivariance and motion and term_space", "wahba_mean", "knn_top1"),
        ({"evaluate__monitor_examples": 9}, "the monitors' curves see different", None, "knn_top1"),
    ],
)
def test_what_does_not_compare_is_said_and_not_marked(make_run, settings, told, unmarked, marked):
    gpu = {"device": "1 x gpu"}
    paths = [make_run("a", {**gpu, "images_per_second": 1.0})]
    better = {**gpu, "knn_top1": 60.0, "wahba_mean": 0.1, "images_per_second": 2.0}
    paths.append(make_run("b", better, **settings, train__epochs=3.0))
    comparison = compare(map(str, paths))
    (note,) = comparison.fairness.notes
    assert told in note and comparison.markdown(["knn_top1"]).startswith(f"* {note}\n\n| run")
    assert "**" not in comparison.markdown([unmarked] if unmarked else ["seconds"])
    assert "**" in comparison.markdown([marked])


def test_other_data_of_the_same_name_and_other_devices_are_told(make_run):
    paths = [make_run("a"), make_run("b", {"device": "1 x gpu", "images_per_second": 5.0}, train__num_steps=7)]
    for path, content in zip(paths, (b"1", b"2"), strict=True):
        (path / "data.json.gz").write_bytes(gzip.compress(content))
    data, devices = compare(map(str, paths)).fairness.notes
    assert data.startswith("on different data: record 1 (a), record 2 (b)") and "1 x cpu (a), 1 x gpu (b)" in devices


def test_data_and_devices_that_are_not_recorded_are_told(make_run):
    paths = [make_run("a"), make_run("b", {"device": None}, train__num_steps=7)]
    (paths[1] / "data.json.gz").unlink()
    data, devices = compare(map(str, paths)).fairness.notes
    assert data == "whether the data is the same is not known, for want of a readable data.json.gz: b"
    assert "1 x cpu (a), not recorded (b)" in devices


def _records(paths, *parts, files=()):
    for path, part in zip(paths, parts, strict=True):
        header = {"parts": {"train": {"examples": 9, "labels": {}, **part}}, "files": {}}
        lines = [header, *(["files", [f"{path.name}/{name}"], [1]] for name in files)]
        (path / "data.json.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))


def test_other_folders_are_other_data_at_whatever_size(make_run):
    paths = [make_run("a", data__image_size=32), make_run("b", {"knn_top1": 60.0}, data__image_size=64)]
    _records(paths, {}, {}, files=["1.png"])
    comparison = compare(map(str, paths))
    (note,) = comparison.fairness.notes
    assert note.startswith("on different data: record 1 (a), record 2 (b)") and "**" not in comparison.markdown()
    for path in paths:  # the same pictures, of which the pixels are as many as the size says
        _records([path], {"labels": {"class": "x"}, "pixels": path.name})
    comparison = compare(map(str, paths))
    assert comparison.fairness.notes == () and "**60.0**" in comparison.markdown()
    for path in paths:
        _records([path], {"pixels": path.name})
    (note,) = compare(map(str, paths)).fairness.notes
    assert note.startswith("whether the data is the same is not known: without pixels") and note.endswith(" tell: b")


def test_a_record_that_may_be_of_two_data_sets_is_said_to_be(make_run):
    paths = [make_run("a"), make_run("b", train__num_steps=7), make_run("c", data__image_size=32)]
    _records(paths, *({"labels": {"class": "x"}, "pixels": name} for name in "123"))
    (note,) = compare(map(str, paths)).fairness.notes
    assert "record 1 (a), record 2 (b), record 1 or 2 (c)" in note
    (paths[2] / "data.json.gz").unlink()
    assert "record 1 (a), record 2 (b), no record (c)" in compare(map(str, paths)).fairness.notes[0]


def test_speeds_compare_between_inputs_of_one_size_and_machines_that_are_told_apart(make_run):
    def judged(**settings):
        names = f"{settings}-a", f"{settings}-b"
        numbers = {"device": settings.pop("device"), "images_per_second": 2.0}
        paths = [make_run(names[0], numbers), make_run(names[1], numbers, train__num_steps=7, **settings)]
        comparison = compare(map(str, paths))
        return comparison.fairness.notes, "**" in comparison.markdown(["images_per_second"])

    assert judged(device="1 x gpu") == ((), True)
    (note,), marked = judged(device="1 x gpu", data__image_size=32)
    assert note.startswith("inputs of different sizes, so times do not compare: 16 (") and not marked
    (note,), marked = judged(device="1 x cpu")
    assert note.startswith("speeds are compared between CPUs, of which '1 x cpu' tells neither") and marked


@pytest.mark.parametrize("name", ["linear_probe_5_percent_top1", "finetune_5_percent_top1", "hue_probe_top1"])
def test_no_best_is_marked_of_any_share_of_the_labels_on_different_data(make_run, name):
    paths = [make_run("a", {name: 1.0}), make_run("b", {name: 2.0}, data__name="cifar10")]
    fairness = compare(map(str, paths)).fairness
    assert not fairness.allows(name) and fairness.allows("images_per_second")


def test_the_page_needs_no_other_file_and_escapes_names(make_run, tmp_path):
    few = make_run("a<b>", rows=[{"step": 2, "loss": 1.0, "mine": math.inf}], equivariance__weight=0.0)
    long = [{"step": step, "loss": 1.0, "knn_top1": 3.0} for step in range(1, 200, 9)]
    paths = [few, make_run("c", rows=long), make_run("d", seed=1), make_run("e", None, [], train__batch_size=64)]
    (few / "report.html").write_text("")
    text = compare(map(str, paths)).page(tmp_path)
    sources = re.findall(r"(?:src|href)=['\"]([^'\"]{0,24})", text)
    assert [source for source in sources if not source.startswith("data:image/")] == ["a%3Cb%3E/report.html"]
    assert text.count("<img") == 3 and "a<b>" not in text and "a&lt;b&gt;" in text
    assert "<td class=best>" in text and "viewport" in text


def test_a_folder_whose_name_is_no_text(make_run, tmp_path):
    paths = [make_run(os.fsdecode(b"caf\xe9")), make_run("b", train__num_steps=7)]
    (paths[0] / "report.html").write_text("")
    comparison = compare(map(str, paths))
    assert r"caf\udce9" in comparison.markdown()
    text = comparison.page(tmp_path)
    assert "caf%E9/report.html" in text and text.encode()


def test_examples_of_docstrings():
    assert doctest.testmod(groups).failed == doctest.testmod(continuation).failed == 0


def test_twenty_settings_have_a_look_each():
    assert len({curves.style(index) for index in range(28)}) == 28


def test_runs_on_clouds_are_compared_and_other_pieces_are_other_data(make_run, tmp_path):
    error = {"principal_component_error": 12.0, "knn_top1": None}
    make_run("care", error, clouds=True)
    make_run("simclr", {**error, "principal_component_error": 14.5}, clouds=True, equivariance__weight=0.0)
    comparison = compare([str(tmp_path)])
    head, _, *rows = _rows(comparison.markdown())
    assert comparison.fairness.notes == () and head[1] == "equivariance.weight"
    assert rows[0][head.index("principal component (degrees) ↓")] == "**12.0**"
    make_run("longer", error, clouds=True, data__window_lengths=(10, 12))
    (note,) = compare([str(tmp_path)]).fairness.notes
    assert note.startswith("on different data sets: ") and "no best is marked" in note and "(longer)" in note


def test_a_run_on_images_beside_one_on_clouds_is_said(make_run, tmp_path):
    make_run("clouds", clouds=True, train__batch_size=16)
    make_run("images")
    comparison = compare([str(tmp_path)])
    assert any("on different data sets" in note for note in comparison.fairness.notes)
    runs = comparison.groups
    figures = [curves._noun(some) for some in (runs, runs[:1], runs[1:])]
    assert figures == ["images or clouds", "clouds", "images"]
