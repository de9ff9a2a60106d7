"""Shares of the labels: as many of each class, one at least, nested, the same for every run; and what is said."""

import numpy as np

from care_jax.evaluate.subsets import balanced

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4, dtype=np.int32), (100, 60, 40, 3)))


def _counts(fraction, draw=0, seed=0):
    rows, told = balanced(LABELS, fraction, seed=seed, draw=draw)
    assert (np.diff(rows) > 0).all()
    return np.bincount(LABELS[rows], minlength=4).tolist(), told


def test_as_many_of_each_class_and_what_is_not_so_is_said():
    assert _counts(0.04) == ([2, 2, 2, 2], "")
    assert _counts(0.1) == ([5, 5, 5, 3], "1 of 4 classes have fewer than 5 images, all of theirs are taken")
    one_each = "0.1 % of 203 images is none of each of 4 classes, one is taken"
    assert _counts(0.001) == ([1, 1, 1, 1], one_each)
    assert _counts(1.0) == ([100, 60, 40, 3], "")


def test_draws_differ_and_are_nested():
    first, again, other, larger = (
        set(balanced(LABELS, fraction, seed=seed, draw=draw)[0].tolist())
        for fraction, seed, draw in ((0.04, 0, 0), (0.04, 0, 0), (0.04, 0, 1), (0.1, 0, 0))
    )
    assert first == again != other and first < larger
    assert first != set(balanced(LABELS, 0.04, seed=1, draw=0)[0].tolist())
