"""When things are due: the device's calls between them, and periods that meet."""

import doctest
import itertools

import pytest

from care_jax.train import timetable as timetables
from care_jax.train.timetable import Timetable, periods


def made(**settings) -> Timetable:
    usual = {"num_steps": 600, "log_every": 4, "evaluate_every": 0, "checkpoint_every": 0, "batch_size": 4}
    return Timetable(**{**usual, **settings})


def test_calls_end_where_something_is_due():
    """Calls of 4 steps, saves every 10, evaluations every 6: single steps lead up to each, resumed or not."""
    timetable = made(num_steps=23, evaluate_every=6, checkpoint_every=10, steps_per_call=4)
    counts = list(timetable.counts(0))
    assert counts == [4, 1, 1, 4, 1, 1, 4, 1, 1, 1, 1, 1, 1, 1]
    for i, end in enumerate(itertools.accumulate(counts)):
        assert list(timetable.counts(end)) == counts[i + 1 :]
    assert timetable.notes(None) == []


@pytest.mark.parametrize(
    ("evaluate_every", "checkpoint_every", "counts"),
    [(10, 0, [10, 10, 10, 1, 1]), (10, 15, [10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 10, 1, 1]), (0, 1, [1] * 32)],
)
def test_more_steps_a_call_than_lie_between_two_saves_are_as_many_as_do(evaluate_every, checkpoint_every, counts):
    """Two programs at most; where the call is shorter than was asked for, that is said."""
    timetable = made(num_steps=32, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every, steps_per_call=100)
    assert list(timetable.counts(0)) == counts
    most = max(counts)
    assert timetable.notes(None) == [
        f"train.steps_per_call is 100, but a save or an evaluation is due every {most} steps: no call makes more"
    ]


def test_a_short_run_is_one_call():
    timetable = made(num_steps=6, steps_per_call=10)
    assert list(timetable.counts(0)) == [6] and timetable.notes(None) == []


@pytest.mark.parametrize(
    ("evaluate", "checkpoint", "steps"),
    [
        (2.5, 5.0, (28, 56)),
        (5.0, 2.5, (56, 28)),
        (2.5, 250.0, (28, 2744)),
        (0.3, 0.9, (3, 9)),  # 3.0000000000000004 times
        # They meet already, or were not meant to.
        *(((20.0, 10.0, (220, 110))), (10.0, 10.0, (110, 110)), (1.5, 4.0, (16, 44)), (0.0, 2.5, (0, 28))),
        ((0.01, 1.0, (1, 11))),
    ],
)
def test_periods_of_which_one_is_a_multiple_meet_in_steps_too(evaluate, checkpoint, steps):
    assert periods(evaluate, checkpoint, 11) == steps


@pytest.mark.parametrize("evaluate_every", [0, 1, 7, 28, 55, 600, 700])
@pytest.mark.parametrize("checkpoint_every", [0, 1, 28, 56])
@pytest.mark.parametrize("every", [1, 3])
def test_evaluations_that_fall_on_a_save_are_counted(evaluate_every, checkpoint_every, every):
    timetable = made(evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
    evaluated = [step for step in range(1, 601) if timetable.due(evaluate_every * every, step)]
    saved = [step for step in evaluated if timetable.due(checkpoint_every, step)]
    assert timetable.ranked(every) == (len(saved), len(evaluated))


def test_evaluations_that_can_rank_no_checkpoint_are_told():
    timetable = made(evaluate_every=28, checkpoint_every=55)
    (line,) = timetable.notes(1)
    assert line.startswith("1 of 22 evaluations fall on a save: ")
    assert timetable.notes(None) == []
    assert made(evaluate_every=28, checkpoint_every=14).notes(1) == []
    assert made(checkpoint_every=14).notes(1) == []  # the last step is evaluated and saved


def test_the_examples_run():
    assert doctest.testmod(timetables).failed == 0
