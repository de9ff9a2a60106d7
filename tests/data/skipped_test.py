"""Files that could not be used: counted once, told once, by one process for all."""

import doctest
import threading

from care_jax.data import skipped as skipped_files
from care_jax.data.skipped import SkippedFiles


def test_skipped_files_are_counted_once_by_many_threads():
    skipped = SkippedFiles()

    def meet():
        for i in range(200):
            skipped.add(f"{i % 50:02d}.png", "truncated" if i % 2 else "not an image")

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(skipped) == 50
    assert "07.png" in skipped
    assert "50.png" not in skipped
    assert skipped.reasons["07.png"] == "truncated"
    told = "skipped 50 image files that could not be used (25 not an image, 25 truncated), first 00.png"
    assert skipped.summary() == told


def test_the_first_reason_stands():
    skipped = SkippedFiles()
    skipped.add("a.png", "empty file")
    skipped.add("a.png", "not an image")
    assert skipped.reasons == {"a.png": "empty file"}


def test_nothing_skipped_is_nothing_to_tell():
    assert SkippedFiles().summary() == ""


def test_what_was_skipped_is_news_once_and_again_where_it_has_grown():
    skipped = SkippedFiles()
    assert skipped.news() == ""
    skipped.add("a.png", "truncated")
    assert skipped.news() == skipped.summary() and skipped.news() == ""
    skipped.add("a.png", "met again")
    assert skipped.news() == ""
    skipped.add("b.png", "truncated")
    assert skipped.news().startswith("skipped 2 image files")


def test_what_several_processes_skipped_is_counted_once():
    """The union, not the sum: all of them meet a file of the sample, or of images that are held in memory."""
    first, other = SkippedFiles(), SkippedFiles()
    first.add("a.png", "truncated")
    for name in ("a.png", "b.png"):
        other.add(name, "unreadable: Permission denied")
    first.join(other.unsent(), by="process 1 on host1")
    first.join({}, by="process 2 on host2")
    assert first.reasons == {"a.png": "truncated", "b.png": "unreadable: Permission denied"}
    assert first.news().endswith("first a.png; met by process 1 on host1")
    assert other.unsent() == {} and first.unsent() == {"a.png": "truncated"}
    other.add("b.png", "again")
    other.add("c.png", "truncated")
    assert other.unsent() == {"c.png": "truncated"}


def test_the_example_runs():
    assert doctest.testmod(skipped_files).failed == 0
