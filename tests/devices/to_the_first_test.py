"""What all processes tell the first one; threads stand for them."""

import pytest

from care_jax.data import SkippedFiles
from care_jax.devices import agreement, to_the_first
from tests.devices.agreement_test import together  # noqa: F401  # a fixture


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch):
    monkeypatch.setattr(to_the_first, "_times", to_the_first.collections.Counter())


def test_alone_it_tells_itself(monkeypatch):
    monkeypatch.setattr(agreement, "_client", None)
    assert to_the_first.told("a number", 3) == [3]
    skipped = SkippedFiles()
    skipped.add("a.png", "truncated")
    to_the_first.skipped(skipped)
    assert skipped.summary().endswith("first a.png")


def test_the_first_hears_all_in_their_order_as_often_as_they_tell(together, monkeypatch):  # noqa: F811
    monkeypatch.setattr(to_the_first, "_PIECE", 7)
    heard = {}

    def call(index):
        heard[index] = [to_the_first.told("names", [f"name {index}"] * (5 * index * turn)) for turn in range(3)]

    assert together(3, call) == [""] * 3
    assert heard[0] == [[[f"name {i}"] * (5 * i * turn) for i in range(3)] for turn in range(3)]
    assert heard[2] == [[["name 2"] * (10 * turn)] for turn in range(3)]
    assert together.coordinator.left() == []  # or a long run would fill the first host's memory


def test_files_that_any_process_skipped_are_counted(together):  # noqa: F811
    skipped = [SkippedFiles() for _ in range(3)]
    skipped[0].add("seen by all.png", "truncated")
    skipped[1].add("seen by all.png", "truncated")
    skipped[2].add("on its disk.png", "unreadable: Permission denied")

    def call(index):
        to_the_first.skipped(skipped[index])
        skipped[index].add(f"{index}.png", "empty file")
        to_the_first.skipped(skipped[index])

    assert together(3, call) == [""] * 3
    assert [len(one) for one in skipped] == [5, 2, 2]
    host = to_the_first.socket.gethostname()
    assert skipped[0].summary() == (
        "skipped 5 image files that could not be used (3 empty file, 1 truncated, 1 unreadable: Permission denied), "
        f"first 0.png; met by process 0 on {host}, process 1 on {host}, process 2 on {host}"
    )
